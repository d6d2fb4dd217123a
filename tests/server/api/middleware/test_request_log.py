"""The request log has one line for each request, without text that a client wrote."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from server.api.middleware import stack
from server.context import Timeline
from tests.server.api.exchanges import CHAT, HELLO, answer, image
from tests.server.application import Handler, Served, serve

SECRET = "of-a-client"


class CountingHandler(Handler):
    """A fake of vLLM's handler, which stores token counts where vLLM stores them."""

    async def create(self, request: Any, raw_request: Any) -> Any:
        metadata = RequestResponseMetadata(request_id="r")
        metadata.final_usage_info = UsageInfo(prompt_tokens=7, completion_tokens=3, total_tokens=10)
        raw_request.state.request_metadata = metadata
        return await super().create(request, raw_request)

    create_chat_completion = create


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    written: list[str] = []
    monkeypatch.setattr(stack, "to_standard_output", lambda: written.append)
    return written


@pytest.fixture
async def served(lines: list[str]) -> AsyncIterator[Served]:
    assert not lines
    served = serve("key", request_log=True)
    served.app.state.openai_serving_chat = CountingHandler(answer())
    async with served.client:
        served.client.headers["Authorization"] = "Bearer key"
        yield served


def only(lines: list[str]) -> dict[str, Any]:
    (line,) = lines
    assert line.endswith("\n")
    assert line.count("\n") == 1
    document: dict[str, Any] = json.loads(line)
    return document


async def test_a_line_has_the_stages_and_tokens_of_a_request(
    served: Served, lines: list[str]
) -> None:
    text = {"type": "text", "text": SECRET}
    content = [image(0), image(10), text]
    response = await served.client.post(
        CHAT,
        json={"messages": [{"role": "user", "content": content}]},
        headers={"x-request-id": "mine-1"},
    )
    assert response.status_code == 200
    line = only(lines)
    assert line["request_id"] == "mine-1" == response.headers["x-request-id"]
    assert (line["method"], line["route"], line["status"]) == ("POST", CHAT, 200)
    assert line["whole"]
    assert line["attachments"] == {"text": 2}
    assert line["tokens"] == {"prompt": 7, "completion": 3}
    assert line["ms"].keys() == {"attachments", "embed", "retrieve", "total"}
    assert 0 < line["ms"]["retrieve"] < line["ms"]["total"]
    assert SECRET not in lines[0]
    assert "key" not in lines[0]


async def test_generation_counts_from_the_first_call_to_the_engine() -> None:
    timeline = Timeline()
    timeline.begin_generating()
    first = timeline.generating
    timeline.begin_generating()
    assert first == timeline.generating is not None


@pytest.mark.parametrize(
    ("path", "key", "status", "route"),
    [
        (f"/v1/{SECRET}", "key", 404, None),
        (f"/v1/files/{SECRET}?a={SECRET}", "key", 404, "/v1/files/{file_id}"),
        ("/v1/files", SECRET, 401, None),
    ],
)
async def test_rejections_are_logged_without_the_clients_text(
    served: Served, lines: list[str], path: str, key: str, status: int, route: str | None
) -> None:
    headers = {"Authorization": f"Bearer {key}", "x-request-id": f"{SECRET}\n{SECRET}"}
    await served.client.get(path, headers=headers)
    line = only(lines)
    assert (line["status"], line["route"], line["tokens"]) == (status, route, {})
    assert SECRET not in lines[0]


async def test_an_exception_is_logged_as_500(served: Served, lines: list[str]) -> None:
    served.app.state.openai_serving_chat = Handler(KeyError(SECRET))
    await served.client.post(CHAT, json={"messages": HELLO})
    assert only(lines)["status"] == 500
    assert SECRET not in lines[0]


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_are_not_logged(served: Served, lines: list[str], path: str) -> None:
    await served.client.get(path)
    assert lines == []


async def test_off_by_default(lines: list[str]) -> None:
    await serve().client.get("/v1/models")
    assert lines == []
