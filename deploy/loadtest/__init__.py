"""Load tests of any server that speaks bindserve's HTTP: `python -m deploy.loadtest --help`.

Needs locust, numpy, pillow and matplotlib; nothing of the server, which may run anywhere.
"""
