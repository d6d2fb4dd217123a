"""Batches and their files, created and read over HTTP."""

import asyncio
import io
import json
from typing import Any

from tests.server.api.exchanges import client_of
from tests.server.application import Served

BATCH = "/v1/batches"
EMBEDDINGS = "/v1/embeddings"
DONE = ("completed", "failed", "expired", "cancelled")


def line(custom_id: Any, body: Any, url: str = EMBEDDINGS, **changes: Any) -> str:
    return json.dumps(
        {"custom_id": custom_id, "method": "POST", "url": url, "body": body, **changes}
    )


async def upload(served: Served, *lines: str, key: str = "first", purpose: Any = "batch") -> str:
    content = io.BytesIO("\n".join(lines).encode())
    file = await client_of(served, key).files.create(file=("in.jsonl", content), purpose=purpose)
    return file.id


async def create(served: Served, file_id: str, endpoint: str = EMBEDDINGS, **more: Any) -> Any:
    body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h", **more}
    return await served.client.post(BATCH, json=body)


async def ended(served: Served, batch_id: str) -> Any:
    async with asyncio.timeout(20):
        while (await served.client.get(f"{BATCH}/{batch_id}")).json()["status"] not in DONE:
            await asyncio.sleep(0.01)
    return (await served.client.get(f"{BATCH}/{batch_id}")).json()


async def rows(served: Served, file_id: str | None) -> dict[str, Any]:
    """Return the lines of a result file by their custom_id. Fails if a custom_id occurs twice."""
    text = (await served.client.get(f"/v1/files/{file_id}/content")).text
    parsed = [json.loads(each) for each in text.splitlines()]
    assert len({each["custom_id"] for each in parsed}) == len(parsed)
    return {each["custom_id"]: each for each in parsed}


def gate(served: Served) -> asyncio.Event:
    """Make the fake encoders wait until the returned event is set."""
    go = served.components.components.go
    go.clear()
    return go
