"""Load tests of any server that speaks bindserve's HTTP: `python -m deploy.loadtest --help`.

Needs locust, numpy, pillow and matplotlib. The server may run anywhere: only `demo`, which starts
one, needs bindserve itself.
"""
