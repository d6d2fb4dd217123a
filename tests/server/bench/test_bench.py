"""The servers that `bindserve bench server` compares answer requests as real servers do."""

import json
from pathlib import Path

import httpx
import pytest

from server.bench.load import ServerArm, closed_loop, open_loop, question, uploads
from server.bench.run import start_arm

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("kind", ["bindserve", "vllm"])
async def test_both_stream_the_same_words(kind: str, tiny_models: dict[str, Path]) -> None:
    with start_arm(kind, tiny_models["finetune"], 1, 0.01) as server:
        url, body = f"{server.url}/v1/chat/completions", question("finetune", 5)
        headers = {"Content-Type": "application/json"}
        text = httpx.post(url, content=body, headers=headers, timeout=60).text
        events = [json.loads(line[6:]) for line in text.split("\n\n")[:-2]]
        words = [e["choices"][0]["delta"].get("content") for e in events if e["choices"]]
        assert "".join(filter(None, words)) == " word" * 5
        assert await closed_loop(server, "finetune", 4, 2, 5) > 0
        found = await open_loop(server, "finetune", 100, 1, 20)
        assert 1 < found.goodput < 6  # The server needs 0.2 s per request.
        assert found.refused > 50


async def test_uploads_are_stored_and_deleted(tiny_models: dict[str, Path]) -> None:
    with start_arm("bindserve", tiny_models["finetune"]) as server:
        assert await uploads(server, 2, 1 << 20) > 0
        assert httpx.get(f"{server.url}/v1/files").json()["data"] == []
        assert isinstance(server, ServerArm)
        assert server.memory("VmHWM") >= server.memory("VmRSS") > 0
