"""Read a small JSON object that a user handed over."""

import json
from pathlib import Path
from typing import Any

from model_ext.weights.errors import ConvertError

LARGEST = 1 << 20  # bytes; configuration files have a few thousand


def read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConvertError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise ConvertError(f"{path}: larger than {LARGEST} bytes, which no configuration is")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ConvertError(f"{path}: must be a JSON object")
    return content
