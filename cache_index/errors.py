"""The package's exceptions, by cause: the files, the request, or the load.

They have no HTTP status: the server and the retrieval service map each class to a status.
"""


class CacheError(Exception):
    """The cache on disk or its index cannot be used. The message names the file and what to do."""


class QueryError(ValueError):
    """The request is invalid: it has a vector of another width, NaN, or a parameter out of
    range.
    """


class CacheBusy(Exception):
    """The queue is full: the request was rejected at once and may be retried later."""


class CacheUnavailable(CacheError):
    """The retrieval service does not answer before the timeout."""


class CacheClosed(CacheError):
    """The cache was closed (the process is shutting down) before the request was answered."""
