"""Return free memory to the system, and shorten garbage collections."""

import contextlib
import ctypes
import gc


def trim_heap() -> None:
    """Return free memory to the system, if the C library can do so (glibc)."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def freeze_objects() -> None:
    """Exclude the objects that exist now from garbage collections. Call this after the start.

    The packages of an API process have half a million objects. Without this call, each full
    collection takes half a second, during which the event loop does not respond.
    """
    gc.collect()
    gc.freeze()
