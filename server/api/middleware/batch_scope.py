"""Recognize requests of batches, which the server sends to itself (`api/batches/in_process.py`).

Clients cannot set this key of the ASGI scope, because uvicorn writes the scope.
"""

from starlette.types import Scope

OWNER = "bindserve.batch_owner"


def batch_owner(scope: Scope) -> str | None:
    """The digest of the API key that owns the batch ("" on a server without keys), or None if the
    request is not of a batch.
    """
    owner: str | None = scope.get(OWNER)
    return owner
