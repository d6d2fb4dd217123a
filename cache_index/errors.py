"""What can go wrong with a cache, by whose fault: the files, the request, or the load.

Knows no HTTP: the server and the retrieval service give each class its status.
"""


class CacheError(Exception):
    """The cache on disk or its index cannot be used. The message names the file and what to do."""


class QueryError(ValueError):
    """The request itself is wrong: a vector of another width, NaN, a parameter out of range."""


class CacheBusy(Exception):
    """The queue is full: the request was refused at once and may be sent again later."""


class CacheUnavailable(CacheError):
    """The retrieval service does not answer, or not in time."""


class CacheClosed(CacheError):
    """The cache was closed (the process is shutting down) before the request was answered."""
