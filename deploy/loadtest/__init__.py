"""Load tests of any server with bindserve's HTTP API: `python -m deploy.loadtest --help`.

The tests need locust, numpy, pillow and matplotlib. The server may run on another machine. Only the
command `demo`, which starts a server, needs bindserve to be installed.
"""
