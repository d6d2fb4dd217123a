"""OpenAI's client sends files to a real server, by id and in multipart forms. The server's memory
use stays small.
"""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.server.media_files import media
from tests.serving.launch import KEY, PLAIN, Server

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("spec", [PLAIN], ids=str)]

PICTURE = media("img_a.jpg")
QUESTION = {"type": "text", "text": "What is this?"}


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def chat(*parts: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": [*parts, QUESTION]}]
    return {"model": "any", "messages": messages, "max_tokens": 8, "temperature": 0}


def inline(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:;base64,{encoded(data)}"}}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def text(answer: dict[str, Any]) -> str:
    content: str = answer["choices"][0]["message"]["content"]
    return content


def test_every_way_to_send_a_file_gives_the_same_answer(
    server: Server, client: openai.OpenAI
) -> None:
    expected = text(server.chat(**chat(inline(PICTURE))))
    stored = client.files.create(file=("a.jpg", PICTURE), purpose="user_data")
    by_id = {"type": "file", "file": {"file_id": stored.id}}
    assert text(server.chat(**chat(by_id))) == expected
    named = {"type": "image_url", "image_url": {"url": "attachment://photo"}}
    for parts in ([named], []):
        files: Any = [
            ("request", (None, json.dumps(chat(*parts)))),
            ("photo", ("a.jpg", PICTURE)),
        ]
        response = httpx.post(f"{server.url}/v1/chat/completions", files=files, timeout=300)
        assert response.status_code == 200, response.text
        assert text(response.json()) == expected
    client.files.delete(stored.id)
    assert server.post("/v1/chat/completions", chat(by_id)).status_code == 404


def test_embeddings_of_a_picture_and_a_text(client: openai.OpenAI) -> None:
    inputs: Any = [inline(PICTURE), "A dog."]
    response = client.embeddings.create(model="any", input=inputs)
    assert [len(item.embedding) for item in response.data] == [40, 40]
    assert all(sum(x * x for x in item.embedding) == pytest.approx(1) for item in response.data)


def test_a_large_upload_stays_out_of_memory(server: Server) -> None:
    """The server rejects a 100 MB file that is no video, and uses less than 20 MiB for it."""
    data = b"\0\0\0\x20ftypisom" + os.urandom(1 << 20) * 99
    request = chat({"type": "video_url", "video_url": {"url": "attachment://film"}})
    files: Any = [("request", (None, json.dumps(request))), ("film", ("a.mp4", data))]
    status = Path(f"/proc/{server.api_process()}/status")

    def memory(name: str) -> int:
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    # Writing 5 to clear_refs resets VmHWM, the peak of the process's memory.
    Path(f"/proc/{server.api_process()}/clear_refs").write_text("5")
    before = memory("VmRSS")
    response = httpx.post(f"{server.url}/v1/chat/completions", files=files, timeout=300)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "messages[0].content[0]"
    grown = memory("VmHWM") - before
    assert grown < 20 << 10, f"{grown} KiB"
