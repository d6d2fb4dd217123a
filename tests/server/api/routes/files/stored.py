"""Uploads to /v1/files, and content parts that refer to stored files."""

from typing import Any

from tests.server.application import Served

FILES = "/v1/files"
PNG = "\x89PNG\r\n\x1a\n" + "x" * 100


async def upload(served: Served, data: bytes, **form: Any) -> Any:
    return await served.client.post(
        FILES, files={"file": ("n.png", data)}, data={"purpose": "user_data", **form}
    )


def part(file_id: str, modality: str = "image") -> dict[str, Any]:
    return {"type": "file", "file": {"file_id": file_id}, "modality": modality}
