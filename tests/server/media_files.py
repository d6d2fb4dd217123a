"""The media files of the test fixtures, as bytes and as base64."""

import base64
from pathlib import Path

MEDIA = Path(__file__).parents[1] / "fixtures" / "media"


def media(name: str) -> bytes:
    return (MEDIA / name).read_bytes()


def encoded(name: str) -> str:
    return base64.b64encode(media(name)).decode()
