"""The retrieval client, with services that send wrong, late or no answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache_index import client as module
from cache_index.client import CacheClient
from cache_index.enhance import Array
from cache_index.errors import CacheBusy, CacheError, CacheUnavailable
from cache_index.index import CacheIndex
from cache_index.wire import CACHE, NEIGHBORS
from tests.cache_index.services import PARAMS, build, connected, free_port

Reply = Callable[[bytes], bytes]


@asynccontextmanager
async def hostile(reply: Callable[[], Awaitable[bytes]], good: CacheIndex) -> AsyncIterator[str]:
    """A server that returns a valid manifest, but answers queries with the bytes of `reply`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/v1/info" in head:
                text = good.manifest.model_dump_json().encode()
                head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
                body = head % len(text) + text
            else:
                body = await reply()
            writer.write(body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(
    index: CacheIndex, body: bytes, *, length: int | None = None, neighbors: str = "2"
) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\n{CACHE}: {index.manifest.name}\r\n{NEIGHBORS}: {neighbors}\r\n"
        f"connection: close\r\ncontent-length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


GOOD = bytes(4 * 24 + 12 * 2)


@pytest.mark.parametrize(
    ("body", "options", "told"),
    [
        (GOOD[:-1], {}, "too short"),
        (GOOD + b"x", {"neighbors": "1"}, "too long"),
        (bytes(10_000_000), {}, r"the answer has more than \d+ bytes"),
        (b"\xff" * len(GOOD), {}, "NaN"),
        (bytes(4 * 24 + 12 * 10), {"neighbors": "10"}, "more"),
        (GOOD, {"neighbors": "-1"}, "no retrieval service"),
        (GOOD, {"neighbors": "2" * 5000}, "no retrieval service"),
        (GOOD[:10], {"length": len(GOOD)}, "cannot be reached"),
    ],
)
async def test_answers_that_are_wrong(
    whole: CacheIndex, queries: Array, body: bytes, options: dict[str, object], told: str
) -> None:
    async def reply() -> bytes:
        return http(whole, body, **options)  # type: ignore[arg-type]

    async with hostile(reply, whole) as url, connected(url) as client:
        with pytest.raises(CacheUnavailable, match=told):
            await client.enhance(queries[0], PARAMS)


async def test_a_redirect_is_not_followed(whole: CacheIndex, queries: Array) -> None:
    async def reply() -> bytes:
        return b"HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n"

    async with hostile(reply, whole) as url, connected(url) as client:
        with pytest.raises(CacheUnavailable, match="302"):
            await client.enhance(queries[0], PARAMS)


async def test_no_answer_costs_one_deadline_then_nothing_for_a_while(
    whole: CacheIndex, queries: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COOL_DOWN", 3.0)
    silent = True

    async def reply() -> bytes:
        await asyncio.sleep(30 if silent else 0)
        return http(whole, GOOD)

    async with hostile(reply, whole) as url, connected(url, timeout=0.4) as client:
        start = time.monotonic()
        with pytest.raises(CacheUnavailable, match="no answer within"):
            await client.enhance(queries[0], PARAMS)
        assert 0.3 < time.monotonic() - start < 10
        message = r"http://\S+: did not answer within the last \S+ s"
        with pytest.raises(CacheUnavailable, match=message):
            await client.enhance(queries[0], PARAMS)
        silent = False
        await asyncio.sleep(3.1)
        assert len((await client.enhance(queries[0], PARAMS)).ids) == 2


async def test_busy_is_tried_again_and_then_said(whole: CacheIndex, queries: Array) -> None:
    busy = b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfull"
    replies = [busy, busy, http(whole, GOOD), busy, busy, busy]

    async def reply() -> bytes:
        return replies.pop(0)

    async with hostile(reply, whole) as url, connected(url) as client:
        assert len((await client.enhance(queries[0], PARAMS)).ids) == 2
        with pytest.raises(CacheBusy, match="full"):
            await client.enhance(queries[0], PARAMS)
    assert not replies


async def test_a_swap_to_another_encoder_is_noticed(
    features: Array, queries: Array, tmp_path: Path
) -> None:
    """The client raises an error if the service opens a cache from another encoder when it
    restarts.
    """
    other = CacheIndex.open(build(features[:9], tmp_path / "o", encoder={"sha256": "new"}))
    mine = CacheIndex.open(build(features[:9], tmp_path / "m", encoder={"sha256": "mine"}))

    async def reply() -> bytes:
        return http(other, GOOD)

    async with hostile(reply, mine) as url, connected(url) as client:

        async def info(*_: object) -> object:
            return other.manifest

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "fetch_manifest", info)
            with pytest.raises(CacheError, match="another encoder"):
                await client.enhance(queries[0], PARAMS)


async def test_nobody_there() -> None:
    with pytest.raises(CacheUnavailable, match="no retrieval service answers"):
        await CacheClient.connect(f"http://127.0.0.1:{free_port()}")
