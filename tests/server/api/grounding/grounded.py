"""Requests for grounding, and answers of the fake engine."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from tests.server.application import Served

TEXT = "There is a red car. It stands beside a blue house, and 🚗 no green tree is there."
RED, BLUE = (10, 20, 30, 50), (40, 5, 70, 25)


def answer(*texts: str | None) -> ChatCompletionResponse:
    choices = [
        ChatCompletionResponseChoice(index=n, message=ChatMessage(role="assistant", content=text))
        for n, text in enumerate(texts)
    ]
    return ChatCompletionResponse(model="tiny", choices=choices, usage=UsageInfo())


async def chat(served: Served, *parts: dict[str, Any], ground: Any = True, **fields: Any) -> Any:
    content = [*parts, {"type": "text", "text": "What is this?"}]
    options = {"ground": ground, **fields.pop("imagebind", {})}
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], **fields}
    return await served.client.post("/v1/chat/completions", json=body | {"imagebind": options})


def corners(box: dict[str, float]) -> list[float]:
    return [box["xmin"], box["ymin"], box["xmax"], box["ymax"]]


def chunk(**fields: Any) -> str:
    document = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
    return f"data: {json.dumps(document | fields)}\n\n"


def delta(text: str, index: int = 0, finish: str | None = None) -> str:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return chunk(choices=[choice])


async def events(*items: str) -> AsyncIterator[str]:
    for item in items:
        yield item


STREAM = (
    *(delta("There is a "), delta("A red", 1), delta("red car", 0), delta(" ball.", 1)),
    *(delta(" here.", 0, "stop"), delta("", 1, "stop"), chunk(choices=[], usage={})),
    "data: [DONE]\n\n",
)


def enable(served: Served, folder: Path, **settings: Any) -> Served:
    # The parser's first answer takes long on a loaded machine.
    settings = {"detector": folder, "ground_timeout_s": 120, **settings}
    served.app.state.settings = served.app.state.settings.model_copy(update=settings)
    return served
