"""Read a JSON configuration file that the user provides."""

import json
from pathlib import Path
from typing import Any

from model_ext.weights.errors import ConvertError

MAX_BYTES = 1 << 20  # maximum file size; configuration files have a few thousand bytes


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises ConvertError: when the file is missing or is not a JSON object.
    """
    if not path.is_file():
        raise ConvertError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ConvertError(f"{path}: larger than {MAX_BYTES} bytes; not a configuration file")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ConvertError(f"{path}: must be a JSON object")
    return content
