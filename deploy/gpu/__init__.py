"""The steps of deploy/gpu_check.py. Each step is a module that runs as a process."""
