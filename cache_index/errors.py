"""The exceptions of this package.

Each class has one cause: the files, the request, or the load. The server and the retrieval service
map each class to an HTTP status.
"""


class CacheError(Exception):
    """Raised when the cache on disk or its index cannot be used. The message names the file and
    what to do.
    """


class QueryError(ValueError):
    """Raised when the request is invalid: its vector has a wrong width or NaN, or a parameter is
    out of range.
    """


class CacheBusy(Exception):
    """Raised when the queue is full. The request can be retried later."""


class CacheUnavailable(CacheError):
    """Raised when the retrieval service does not answer before the timeout."""


class CacheClosed(CacheError):
    """Raised when the cache is closed, because the process shuts down, before the request is
    answered.
    """
