"""The loop of tools in docs/tools.md runs, with OpenAI's client and the routes of its tools. Only
the engine, the retrieval cache and the detector are fakes.
"""

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from vllm.entrypoints.generate.base.protocol import FunctionCall, ToolCall
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from cache_index.enhance import Array, CacheParams
from cache_index.enhancer import EnhancedRow
from model_ext.grounding.detector import Detection, Query, Takes
from model_ext.grounding.side import GroundingModel
from model_ext.prompt import CHAT_TEMPLATE
from server.conditioning.retrieve import Retriever
from tests.server.api.grounding.test_detections import enable
from tests.server.api.routes.test_similarity import FakeCache
from tests.server.side.served import application

pytestmark = pytest.mark.asyncio(loop_scope="package")

ROOT = Path(__file__).parents[4]


class Everywhere:
    """A detector that finds every thing but a dog."""

    takes: Takes = "texts"
    threshold = 0.5

    def detect(
        self, pictures: Sequence[np.ndarray], queries: Sequence[Sequence[Query]], threshold: float
    ) -> list[list[Detection]]:
        assert (len(pictures), threshold) == (1, 0.5)
        box = (1.0, 2.0, 30.0, 40.4)
        return [
            [Detection(n, box, 0.9) for n, query in enumerate(own) if query.text != "dog"]
            for own in queries
        ]


class FirstNumbers(FakeCache):
    """A cache that compares only the first two numbers of an embedding."""

    async def enhance(
        self, query: Array, params: CacheParams, *, explain: bool = False
    ) -> EnhancedRow:
        return await super().enhance(query[:2], params, explain=explain)


class Caller:
    """A chat handler that first calls all tools, and then answers."""

    chat_template = CHAT_TEMPLATE

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def create_chat_completion(self, request: Any, raw_request: Any) -> Any:
        assert raw_request is not None
        self.seen.append(request)
        message = ChatMessage(role="assistant", content="Yes.")
        if len(self.seen) == 1:
            message = ChatMessage(role="assistant", content=None, tool_calls=calls(request))
        choice = ChatCompletionResponseChoice(index=0, message=message)
        return ChatCompletionResponse(model="demo", choices=[choice], usage=UsageInfo())


def calls(request: Any) -> list[ToolCall]:
    """Call each tool with the name that the prompt has for the picture."""
    ((name,),) = request.chat_template_kwargs["attachments"]
    arguments = [
        ("search", {"text": "80"}),
        ("compare", {"image": name, "text": "80"}),
        ("detect", {"image": name, "thing": "cat"}),
        ("detect", {"image": name, "thing": "dog"}),
        ("detect", {"image": "image/00000000.png", "thing": "cat"}),
    ]
    offered = {tool.function.name: tool.function.parameters["required"] for tool in request.tools}
    assert all(list(own) == offered[tool] for tool, own in arguments)
    return [
        ToolCall(function=FunctionCall(name=tool, arguments=json.dumps(own)))
        for tool, own in arguments
    ]


class Bridge(httpx.BaseTransport):
    """Passes the requests of a client in a thread to the application in an event loop."""

    def __init__(self, client: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        call = self._client.request(
            request.method,
            request.url.path,
            content=request.read(),
            headers={"Content-Type": "application/json"},
        )
        answer = asyncio.run_coroutine_threadsafe(call, self._loop).result(60)
        return httpx.Response(answer.status_code, content=answer.content, request=request)


async def test_the_loop_of_tools_runs(
    encoding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "tools.md").read_text(), re.DOTALL
    )
    model = GroundingModel(Everywhere(), None, "cpu")
    async with application(encoding, {"detector": model}) as served:
        enable(served, tmp_path, "owlv2")
        served.components.description["detector"] = True
        cache: Any = FirstNumbers()
        served.components.retriever = Retriever(cache)
        caller = served.app.state.openai_serving_chat = Caller()
        bridge = httpx.Client(transport=Bridge(served.client, asyncio.get_running_loop()))
        opened = partial(openai.OpenAI, http_client=bridge)
        monkeypatch.setattr(openai, "OpenAI", opened)
        monkeypatch.setitem(sys.modules, "requests", bridge)
        monkeypatch.chdir(ROOT)
        printed: list[str] = []
        await asyncio.to_thread(exec, code, {"print": printed.append})
    *results, last = printed
    assert last == "Yes."
    assert len(results) == 5
    assert [line.split("(")[0] for line in results] == ["search", "compare", *["detect"] * 3]
    values = [line.split(" -> ")[1] for line in results]
    assert set(values[0].split(", ")) == {"row 0", "row 1", "row 2"}
    assert -1 <= float(values[1]) <= 1
    assert values[2] == "1, 2, 30, 40"
    assert values[3].startswith("There is no dog in image/")
    assert values[4] == "There is no file image/00000000.png."
    first, second = caller.seen
    assert first.tool_choice.function.name == "search"
    assert second.tool_choice == "none"
    assert [each["content"] for each in second.messages if each["role"] == "tool"] == values
