"""One encoding service with real decoding processes, for all tests of this folder."""

from tests.server.side.conftest import encoding

__all__ = ["encoding"]
