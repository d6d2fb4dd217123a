"""Batches of chats and completions on a server with a language model."""

import json
import time
from typing import Any

import openai
import pytest

from tests.serving.launch import KEY, PLAIN, Server
from tests.serving.test_files import PICTURE, chat, inline

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("spec", [PLAIN], ids=str)]

COMPLETION = {"model": "any", "prompt": "A dog", "max_tokens": 8, "temperature": 0}
BODIES: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [chat(inline(PICTURE)), chat()],
    "/v1/completions": [COMPLETION, {**COMPLETION, "temperature": -1}],
}


@pytest.mark.parametrize("endpoint", BODIES)
def test_a_batch_gives_the_answers_of_single_requests(server: Server, endpoint: str) -> None:
    bodies = BODIES[endpoint]
    lines = [
        json.dumps({"custom_id": str(k), "method": "POST", "url": endpoint, "body": body})
        for k, body in enumerate(bodies)
    ]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint=endpoint,  # type: ignore[arg-type]
            completion_window="24h",
        )
        while batch.status not in ("completed", "failed"):
            time.sleep(0.1)
            batch = client.batches.retrieve(batch.id)
        ids = [batch.output_file_id, batch.error_file_id]
        texts = [client.files.content(each).text for each in ids if each]
    rows = {row["custom_id"]: row for text in texts for row in map(json.loads, text.splitlines())}
    assert len(rows) == len(bodies)
    for number, body in enumerate(bodies):
        single, row = server.post(endpoint, body), rows[str(number)]["response"]
        assert row["status_code"] == single.status_code
        if single.status_code == 200:
            assert row["body"]["choices"] == single.json()["choices"]
        else:
            assert row["body"] == single.json()
