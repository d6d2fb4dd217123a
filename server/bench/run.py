"""`bindserve bench server`: start the servers, measure them in pairs, and print the ratios.

load.py sends the requests, and arm.py runs the servers that are compared.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from model_ext.bench.pairs import Ratio, measure, ratio
from server.bench.load import ServerArm, closed_loop, open_loop, upload, uploads
from server.bench.load import session as open_session
from server.process.control import source_path

CLIENTS, TOKENS = 32, 32
# The engine in the measurement of overload: number of concurrent requests, and seconds per token.
SEATS, TOKEN_S = 8, 0.01
UPLOADS, UPLOAD_BYTES = 16, 16 << 20
LARGE = 100 << 20
OVERLOAD_S = 10

Echo = Callable[[str], None]


@contextlib.contextmanager
def start_arm(kind: str, model: Path, *options: object) -> Iterator[ServerArm]:
    command = [sys.executable, "-P", "-m", "server.bench.arm", kind, str(model.resolve())]
    environment = {
        **os.environ,
        "PYTHONPATH": source_path(),
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    process = subprocess.Popen(
        [*command, *map(str, options)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                yield ServerArm(kind, int(json.loads(line)["port"]), process.pid)
                return
        raise RuntimeError(f"the arm {kind} did not start")
    finally:
        process.terminate()
        process.communicate()  # this call waits for the process's exit and closes the pipe


def run(model: Path, pairs: int, requests: int, echo: Echo) -> None:
    with (
        start_arm("bindserve", model) as server,
        start_arm("vllm", model) as vllm,
        start_arm("bare", model) as bare,
    ):
        echo(f"streamed chats of {TOKENS} tokens, {CLIENTS} clients, mock engine")
        for other in (vllm, bare):
            wall, cpu = throughput(server, other, model, pairs, requests)
            echo(f"  requests/s, bindserve / {other.name:<14} {wall}")
            echo(f"  requests/CPU-s, bindserve / {other.name:<10} {cpu}")
    with start_arm("bindserve", model) as server, start_arm("starlette", model) as starlette:
        echo(f"{UPLOADS} uploads of {UPLOAD_BYTES >> 20} MiB at once, lag of the event loop, p99")
        echo(f"  bindserve / starlette    {lag(server, starlette, pairs, echo)}")
        echo(f"one upload of {LARGE >> 20} MiB: memory grows by {growth(server) / 1e6:.1f} MB")
    with start_arm("bindserve", model, SEATS, TOKEN_S) as slow:
        overload(slow, model, echo)


def throughput(
    server: ServerArm, other: ServerArm, model: Path, pairs: int, requests: int
) -> tuple[Ratio, Ratio]:
    """Compare two servers by their requests per second, and by their requests per CPU second.

    CPU time is less affected by other programs on the machine.
    """
    by_cpu: dict[str, list[float]] = {server.name: [], other.name: []}

    def speed(side: ServerArm) -> Callable[[], float]:
        name = "m" if side.name == "bare" else model.resolve().name

        def once() -> float:
            before = side.cpu_s()
            rate = asyncio.run(closed_loop(side, name, requests, CLIENTS, TOKENS))
            by_cpu[side.name].append(requests / (side.cpu_s() - before))
            return rate

        return once

    for side in (server, other):
        speed(side)()  # one run to warm up
        by_cpu[side.name].clear()
    wall = ratio(measure(speed(server), speed(other), pairs))
    return wall, ratio(list(zip(by_cpu[server.name], by_cpu[other.name], strict=True)))


def lag(server: ServerArm, other: ServerArm, pairs: int, echo: Echo) -> Ratio:
    def late(side: ServerArm) -> Callable[[], float]:
        return lambda: asyncio.run(uploads(side, UPLOADS, UPLOAD_BYTES))

    for side in (server, other):
        late(side)()
    measured = measure(late(server), late(other), pairs)
    for name, column in (("bindserve", 0), ("starlette", 1)):
        values = sorted(pair[column] * 1000 for pair in measured)
        echo(f"  {name:<24} {values[len(values) // 2]:.1f} ms (median of {pairs})")
    return ratio(measured)


def growth(server: ServerArm) -> int:
    """Return by how many bytes one upload raises the server's peak memory."""

    async def once() -> None:
        async with open_session(1) as client:
            await upload(client, server, LARGE)

    asyncio.run(once())  # not measured: the first upload allocates memory that stays allocated
    server.forget_peak()
    before = server.memory("VmRSS")
    asyncio.run(once())
    return server.memory("VmHWM") - before


def overload(slow: ServerArm, model: Path, echo: Echo) -> None:
    name = model.resolve().name
    best = max(asyncio.run(closed_loop(slow, name, 200, SEATS, TOKENS)) for _ in range(3))
    overload = asyncio.run(open_loop(slow, name, 3 * best, OVERLOAD_S, TOKENS))
    after = asyncio.run(closed_loop(slow, name, 200, SEATS, TOKENS))
    echo(f"an engine of {SEATS} seats, {TOKEN_S * 1000:g} ms a token: peak {best:.1f} requests/s")
    echo(
        f"  offered three times that: {overload.goodput:.1f} answered a second "
        f"({overload.goodput / best:.2f} of the peak), {overload.refused} refused within "
        f"{overload.refusal_s * 1000:.0f} ms (p99); afterwards {after:.1f}"
    )
