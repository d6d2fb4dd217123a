"""Requests, answers and checks that the tests of many routes share."""

import asyncio
from typing import Any

import httpx
import openai
from starlette.types import ASGIApp
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from tests.server.application import Served

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


def client_of(served: Served, key: str = "first") -> openai.AsyncOpenAI:
    """Return OpenAI's client of the application. It does not retry."""
    return openai.AsyncOpenAI(
        base_url="http://test/v1",
        api_key=key,
        # The parameter's type is httpx2's client, but the library also accepts clients of httpx.
        http_client=served.client,  # type: ignore[arg-type]
        max_retries=0,
    )


async def send_and_leave(app: ASGIApp, body: bytes, **headers: str) -> None:
    """Call the chat route over ASGI, like a client that sends a body and disconnects while the
    server computes the embedding. `headers`: with "_" instead of "-".
    """
    messages = [
        {"type": "http.request", "body": body, "more_body": False},
        {"type": "http.disconnect"},
    ]
    raw_headers = [
        (name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()
    ]
    scope = {
        **{"type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode()},
        **{"query_string": b"", "http_version": "1.1", "scheme": "http"},
        **{"server": ("test", 80), "client": ("test", 1), "headers": raw_headers},
    }

    async def receive() -> Any:
        if len(messages) == 1:
            await asyncio.sleep(0.05)
        return messages.pop(0)

    async def send(message: Any) -> None:
        pass

    async with asyncio.timeout(5):
        await app(scope, receive, send)
