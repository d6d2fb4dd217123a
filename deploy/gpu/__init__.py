"""The steps of deploy/gpu_check.py, each a module that runs as a process."""
