"""Load tests of any server that speaks bindserve's HTTP: `python -m deploy.loadtest --help`.

Needs locust, numpy, pillow and matplotlib; of the server, which may run anywhere, only `demo` needs a part.
"""
