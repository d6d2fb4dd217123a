"""A client for OpenAI's chat completions. It retries requests that fail temporarily."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

MAX_RESPONSE_BYTES = 1 << 22
MAX_DELAY_S = 30.0
RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}


class AskError(RuntimeError):
    """Raised when a server does not respond as expected. The message names the question."""


class RetryError(RuntimeError):
    """A temporary failure. The client sends the request again."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """Sends requests to an OpenAI-style server.

    `base`: the URL up to and including /v1. `delay_s`: seconds before the first retry. Each further
    delay is twice as long.
    """

    session: aiohttp.ClientSession
    base: str
    retries: int = 5
    delay_s: float = 0.5

    async def model(self) -> str:
        """Return the name of the server's first model."""
        data = await self.retry(lambda: self.exchange("GET", "/models"), "the list of models")
        try:
            return str(data["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as e:
            raise AskError(f"{self.base}/models lists no model; name one with --model") from e

    async def prompt_logprobs(self, body: dict[str, Any], name: str) -> list[tuple[str, float]]:
        """Return (token id, log-probability) of each token of the prompt except the first.

        The server needs vLLM's extension `prompt_logprobs`.

        Raises AskError: when the response has no such list.
        """
        data = await self.retry(lambda: self.exchange("POST", "/chat/completions", body), name)
        try:
            tokens = [next(iter(token.items())) for token in data["prompt_logprobs"][1:]]
            return [(key, float(value["logprob"])) for key, value in tokens]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration) as e:
            raise AskError(f"{name}: the response has no prompt_logprobs") from e

    async def answer(self, body: dict[str, Any], name: str) -> tuple[str, str | None]:
        """Return the answer's text and its finish_reason.

        Raises AskError: when the server rejects the request.
        """
        data = await self.retry(lambda: self.exchange("POST", "/chat/completions", body), name)
        try:
            choice = data["choices"][0]
            return str(choice["message"]["content"] or ""), choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as e:
            raise AskError(f"{name}: the response is not a chat completion") from e

    async def retry(self, call: Callable[[], Any], name: str) -> Any:
        delay = self.delay_s
        for attempt in range(self.retries + 1):
            try:
                return await call()
            except AskError as e:
                raise AskError(f"{name}: {e}") from e
            except (RetryError, aiohttp.ClientError, TimeoutError) as e:
                if attempt == self.retries:
                    text = str(e) or type(e).__name__
                    raise AskError(f"{name}: {text} (after {attempt + 1} requests)") from e
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_DELAY_S)

    async def exchange(self, method: str, path: str, body: object = None) -> Any:
        async with self.session.request(method, self.base + path, json=body) as response:
            blob = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                blob += chunk
                if len(blob) > MAX_RESPONSE_BYTES:
                    raise AskError(f"the response has more than {MAX_RESPONSE_BYTES} bytes")
            if response.status != 200:
                text = f"status {response.status}: {blob[:300].decode(errors='replace')}"
                raise (RetryError if response.status in RETRIED else AskError)(text)
            try:
                return json.loads(blob)
            except (ValueError, RecursionError) as e:
                raise AskError("the response is not JSON") from e
