"""The server rejects excess requests before reading their bodies, and answers all others."""

import asyncio
from typing import Any

from prometheus_client import REGISTRY

from server.api.middleware.admission import AdmissionMiddleware
from server.fairness.share import FairShare

CHAT = "/v1/chat/completions"


async def never_read() -> Any:
    raise AssertionError("the body was read")


class LimitedApp:
    """An application that allows each client two concurrent requests, and answers them only after
    `go` is set.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.middleware = AdmissionMiddleware(self.app, FairShare(4))

    async def app(self, _scope: Any, _receive: Any, send: Any) -> None:
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def status(self, path: str = CHAT) -> int:
        return int((await self.ask(path))["status"])

    async def ask(self, path: str) -> Any:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": path, "method": "POST", "headers": []}
        await self.middleware(scope, never_read, send)
        return sent[0]


async def test_a_request_above_the_limit_is_rejected() -> None:
    limited, before = LimitedApp(), REGISTRY.get_sample_value("bindserve_refused_total") or 0
    inside = [asyncio.ensure_future(limited.status()) for _ in range(2)]
    await asyncio.sleep(0)
    refusal = await limited.ask(CHAT)
    assert refusal["status"] == 503
    assert b"retry-after" in dict(refusal["headers"])
    assert REGISTRY.get_sample_value("bindserve_refused_total") == before + 1
    limited.go.set()
    assert await asyncio.gather(*inside) == [200, 200]
    assert await limited.status() == 200


async def test_a_cancelled_request_does_not_count() -> None:
    limited = LimitedApp()
    inside = [asyncio.ensure_future(limited.status()) for _ in range(2)]
    await asyncio.sleep(0)
    inside[0].cancel()
    await asyncio.gather(*inside[:1], return_exceptions=True)
    assert limited.middleware.running.used == 1
    limited.go.set()
    assert await limited.status() == 200
    await inside[1]
    assert limited.middleware.running.used == 0


async def test_other_paths_are_not_limited() -> None:
    limited = LimitedApp()
    inside = [asyncio.ensure_future(limited.status()) for _ in range(2)]
    others = [asyncio.ensure_future(limited.status(path)) for path in ("/v1/models", "/metrics")]
    await asyncio.sleep(0)
    limited.go.set()
    assert await asyncio.gather(*inside, *others) == [200] * 4
