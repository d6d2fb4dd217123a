import asyncio
from typing import Any

import pytest

from server.api.middleware.context import ContextMiddleware
from server.api.middleware.rate_limit import KeyUsage, RateLimitMiddleware
from server.context import current


def test_a_token_bucket_fills_at_a_constant_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("server.api.middleware.rate_limit.time.monotonic", lambda: now[0])
    usage = KeyUsage(6, filled=0)
    assert [usage.wait_s(6) for _ in range(6)] == [0] * 6
    # A key with six requests a minute gets its next request after 10 seconds.
    assert usage.wait_s(6) == pytest.approx(10)
    now[0] = 5
    assert usage.wait_s(6) == pytest.approx(5)
    now[0] = 10
    assert usage.wait_s(6) == 0
    now[0] = 1000  # Even after a long pause, a key has at most the requests of one minute.
    assert [bool(usage.wait_s(6)) for _ in range(7)] == [False] * 6 + [True]


def test_a_request_of_a_batch_leaves_tokens_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.api.middleware.rate_limit.time.monotonic", lambda: 0.0)
    usage = KeyUsage(6, filled=0)
    assert [bool(usage.wait_s(6, kept=3)) for _ in range(4)] == [False] * 3 + [True]
    assert [bool(usage.wait_s(6)) for _ in range(4)] == [False] * 3 + [True]
    # The same applies to a limit of one request a minute.
    assert KeyUsage(1, filled=0).wait_s(1, kept=0.5) == 0


async def test_concurrent_requests_of_one_key_are_limited() -> None:
    go = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    limit = RateLimitMiddleware(app, per_minute=0, concurrent=2)

    async def keyed(scope: Any, receive: Any, send: Any) -> None:
        current().key_salt = scope["key"]
        await limit(scope, receive, send)

    async def status(key: str) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/v1/models", "key": key, "headers": []}
        await ContextMiddleware(keyed, b"")(scope, None, send)  # type: ignore[arg-type]
        return int(sent[0]["status"])

    first = [asyncio.ensure_future(status("a")) for _ in range(2)]
    await asyncio.sleep(0)
    assert await status("a") == 429
    other = asyncio.ensure_future(status("b"))
    cancelled = asyncio.ensure_future(status("b"))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*first, other) == [200] * 3
    assert await status("a") == 200
    assert [usage.running for usage in limit.usage.values()] == [0, 0]
