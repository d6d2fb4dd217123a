"""Requests, answers and checks that the tests of many routes share."""

from typing import Any

import httpx
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]


def image(number: int, **extra: Any) -> dict[str, Any]:
    """A content part with an image that the fake encoders embed as a direction in degrees."""
    text = {"text": str(number)}
    return {"type": "imagebind_text", "imagebind_text": text, "modality": "image", **extra}


def answer() -> ChatCompletionResponse:
    message = ChatMessage(role="assistant", content="Hi")
    choice = ChatCompletionResponseChoice(index=0, message=message)
    return ChatCompletionResponse(model="tiny", choices=[choice], usage=UsageInfo())


def check_error(response: httpx.Response, status: int, **expected: Any) -> str:
    """Check that the response contains OpenAI's error object. Returns its message."""
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert {key: error[key] for key in expected} == expected
    message: str = error["message"]
    assert message
    return message
