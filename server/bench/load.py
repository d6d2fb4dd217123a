"""The requests of `bench server`: streamed chats and large uploads. Chats are sent in a closed loop
(after the previous answer) or an open loop (at a fixed rate).
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

BOUNDARY = "bench-boundary"
PIECE = os.urandom(1 << 18)


@dataclass(frozen=True, slots=True)
class ServerArm:
    """A running server that the benchmark measures."""

    name: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory(self, name: str) -> int:
        """Return the memory of the server in bytes. `name`: VmRSS (current) or VmHWM (peak since
        `forget_peak`).
        """
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

    def cpu_s(self) -> float:
        """Return the CPU seconds that the server has used since its start."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    async def lag(self) -> float:
        """Return how late the server's event loop ran timers since the previous call: the 99th
        percentile, in seconds.
        """
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/bench/lag") as response,
        ):
            return float((await response.json())["p99_s"])


def question(model: str, tokens: int) -> bytes:
    message = {"role": "user", "content": "What is the weather like in the picture? " * 4}
    body = {"model": model, "messages": [message], "max_tokens": tokens, "stream": True}
    return json.dumps(body).encode()


@asynccontextmanager
async def session(connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=connections)
    headers = {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as s:
        yield s


async def chat(client: aiohttp.ClientSession, arm: ServerArm, body: bytes) -> int:
    async with client.post(f"{arm.url}/v1/chat/completions", data=body) as response:
        answer = await response.read()
        if response.status == 200 and not answer.endswith(b"data: [DONE]\n\n"):
            raise RuntimeError(f"{arm.name}: a stream stopped before its end")
        return response.status


async def closed_loop(
    arm: ServerArm, model: str, requests: int, clients: int, tokens: int
) -> float:
    """Send requests from `clients` concurrent clients. Returns the requests per second.

    Each client sends one request after the other.
    """
    body, todo = question(model, tokens), iter(range(requests))
    async with session(clients) as client:

        async def one() -> None:
            for _ in todo:
                if (status := await chat(client, arm, body)) != 200:
                    raise RuntimeError(f"{arm.name} answers {status}")

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(clients)))
        return requests / (time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class OpenLoop:
    goodput: float  # completed answers per second
    refused: int
    refusal_s: float  # 99th percentile of the seconds until a request is rejected


async def open_loop(
    arm: ServerArm, model: str, rate: float, seconds: float, tokens: int
) -> OpenLoop:
    """Send requests at a steady rate, without waiting for the answers to earlier requests."""
    body = question(model, tokens)
    good, refusals = 0, []
    async with session(0) as client:

        async def one() -> None:
            nonlocal good
            begun = time.perf_counter()
            if await chat(client, arm, body) == 200:
                good += 1
            else:
                refusals.append(time.perf_counter() - begun)

        started, tasks = time.perf_counter(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(started + number / rate - time.perf_counter())
            tasks.append(asyncio.ensure_future(one()))
        await asyncio.gather(*tasks)
        elapsed = time.perf_counter() - started
    slowest = sorted(refusals)[int(len(refusals) * 0.99)] if refusals else 0.0
    return OpenLoop(good / elapsed, len(refusals), slowest)


def form(size: int) -> Iterator[bytes]:
    """Yield a file of `size` bytes as multipart/form-data, in pieces."""
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    yield f'{head}"purpose"\r\n\r\nuser_data\r\n'.encode()
    yield f'{head}"file"; filename="a.mp4"\r\n\r\n'.encode()
    for start in range(0, size, len(PIECE)):
        yield PIECE[: size - start]
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


async def upload(client: aiohttp.ClientSession, arm: ServerArm, size: int) -> str:
    """Upload a file of `size` bytes. Returns the file's id."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in form(size):
            yield piece

    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    async with client.post(f"{arm.url}/v1/files", data=pieces(), headers=headers) as response:
        answer = await response.json()
        if response.status != 200:
            raise RuntimeError(f"{arm.name} answers {response.status}: {answer}")
        return str(answer["id"])


async def uploads(arm: ServerArm, count: int, size: int) -> float:
    """Upload `count` files concurrently. Returns the 99th percentile of the event loop's lag, in
    seconds.
    """
    async with session(count) as client:
        await arm.lag()
        ids = await asyncio.gather(*(upload(client, arm, size) for _ in range(count)))
        late = await arm.lag()
        for file_id in ids:  # the application `bare` has no route to delete files
            async with client.delete(f"{arm.url}/v1/files/{file_id}"):
                pass
        return late
