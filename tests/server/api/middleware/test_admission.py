"""What is too much is refused at the door: nobody reads its body, and others are not disturbed."""

import asyncio
from typing import Any

from prometheus_client import REGISTRY

from server.api.middleware.admission import AdmissionMiddleware

CHAT = "/v1/chat/completions"


async def never_read() -> Any:
    raise AssertionError("the body was read")


class House:
    """Two at a time; they stay until they may go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.door = AdmissionMiddleware(self.app, max_requests=2)

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
        await self.door(scope, never_read, send)
        return sent[0]


async def test_so_many_at_a_time() -> None:
    house, before = House(), REGISTRY.get_sample_value("bindserve_refused_total") or 0
    inside = [asyncio.ensure_future(house.status()) for _ in range(2)]
    await asyncio.sleep(0)
    refusal = await house.ask(CHAT)
    assert refusal["status"] == 503
    assert b"retry-after" in dict(refusal["headers"])
    assert REGISTRY.get_sample_value("bindserve_refused_total") == before + 1
    house.go.set()
    assert await asyncio.gather(*inside) == [200, 200]
    assert await house.status() == 200


async def test_who_leaves_makes_room() -> None:
    house = House()
    inside = [asyncio.ensure_future(house.status()) for _ in range(2)]
    await asyncio.sleep(0)
    inside[0].cancel()
    await asyncio.gather(*inside[:1], return_exceptions=True)
    assert house.door.running == 1
    house.go.set()
    assert await house.status() == 200
    await inside[1]
    assert house.door.running == 0


async def test_what_makes_no_work_is_let_in() -> None:
    house = House()
    inside = [asyncio.ensure_future(house.status()) for _ in range(2)]
    others = [asyncio.ensure_future(house.status(path)) for path in ("/v1/models", "/metrics")]
    await asyncio.sleep(0)
    house.go.set()
    assert await asyncio.gather(*inside, *others) == [200] * 4
