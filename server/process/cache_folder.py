"""The folder of files that make the next start faster, for example compiled kernels."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return bindserve's folder in the user's cache folder (XDG_CACHE_HOME, or ~/.cache).

    Raises RuntimeError: when the user has no home folder.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bindserve"
