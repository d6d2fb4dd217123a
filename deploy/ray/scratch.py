"""The folder of clients' files, which all server replicas share."""

import tempfile
from pathlib import Path

from server.settings import Settings


def scratch(settings: Settings) -> Path:
    """Return the folder of clients' files, which all server replicas share.

    With several machines, the setting `upload_folder` must name a folder on a shared file system.
    """
    folder = (settings.upload_folder or Path(tempfile.gettempdir())) / "bindserve-ray"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
