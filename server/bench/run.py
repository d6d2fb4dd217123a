"""`bindserve bench server`: starts the arms, measures in pairs, prints.

Knows which comparisons there are; not how requests look (load.py) nor what the arms are (arm.py).
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
from server.bench.load import Arm, closed_loop, open_loop, upload, uploads
from server.bench.load import session as open_session
from server.process.control import source_path

CLIENTS, TOKENS = 32, 32
SEATS, TOKEN_S = 8, 0.01  # of the engine that is overloaded
UPLOADS, UPLOAD_BYTES = 16, 16 << 20
LARGE = 100 << 20
OVERLOAD_S = 10

Echo = Callable[[str], None]


@contextlib.contextmanager
def arm(kind: str, model: Path, *options: object) -> Iterator[Arm]:
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
                yield Arm(kind, int(json.loads(line)["port"]), process.pid)
                return
        raise RuntimeError(f"the arm {kind} did not start")
    finally:
        process.terminate()
        process.communicate()  # waits, and closes the pipe


def run(model: Path, pairs: int, requests: int, echo: Echo) -> None:
    with arm("ours", model) as ours, arm("vllm", model) as vllm, arm("bare", model) as bare:
        echo(f"streamed chats of {TOKENS} tokens, {CLIENTS} clients, mock engine")
        for other in (vllm, bare):
            wall, cpu = throughput(ours, other, model, pairs, requests)
            echo(f"  requests/s, ours / {other.name:<14} {wall}")
            echo(f"  requests/CPU-s, ours / {other.name:<10} {cpu}")
    with arm("ours", model) as ours, arm("starlette", model) as starlette:
        echo(f"{UPLOADS} uploads of {UPLOAD_BYTES >> 20} MiB at once, lag of the event loop, p99")
        echo(f"  ours / starlette         {lag(ours, starlette, pairs, echo)}")
        echo(f"one upload of {LARGE >> 20} MiB: memory grows by {growth(ours) / 1e6:.1f} MB")
    with arm("ours", model, SEATS, TOKEN_S) as slow:
        overload(slow, model, echo)


def throughput(
    ours: Arm, other: Arm, model: Path, pairs: int, requests: int
) -> tuple[Ratio, Ratio]:
    """By the clock, and by the server's own CPU time, which a busy machine disturbs less."""
    by_cpu: dict[str, list[float]] = {ours.name: [], other.name: []}

    def speed(side: Arm) -> Callable[[], float]:
        name = "m" if side.name == "bare" else model.resolve().name

        def once() -> float:
            before = side.cpu_s()
            rate = asyncio.run(closed_loop(side, name, requests, CLIENTS, TOKENS))
            by_cpu[side.name].append(requests / (side.cpu_s() - before))
            return rate

        return once

    for side in (ours, other):
        speed(side)()  # warm
        by_cpu[side.name].clear()
    wall = ratio(measure(speed(ours), speed(other), pairs))
    return wall, ratio(list(zip(by_cpu[ours.name], by_cpu[other.name], strict=True)))


def lag(ours: Arm, other: Arm, pairs: int, echo: Echo) -> Ratio:
    def late(side: Arm) -> Callable[[], float]:
        return lambda: asyncio.run(uploads(side, UPLOADS, UPLOAD_BYTES))

    for side in (ours, other):
        late(side)()
    measured = measure(late(ours), late(other), pairs)
    for name, column in (("ours", 0), ("starlette", 1)):
        values = sorted(pair[column] * 1000 for pair in measured)
        echo(f"  {name:<24} {values[len(values) // 2]:.1f} ms (median of {pairs})")
    return ratio(measured)


def growth(ours: Arm) -> int:
    """Of the peak over what it was before, in bytes."""

    async def once() -> None:
        async with open_session(1) as client:
            await upload(client, ours, LARGE)

    asyncio.run(once())  # what is allocated once
    ours.forget_peak()
    before = ours.memory("VmRSS")
    asyncio.run(once())
    return ours.memory("VmHWM") - before


def overload(slow: Arm, model: Path, echo: Echo) -> None:
    name = model.resolve().name
    best = max(asyncio.run(closed_loop(slow, name, 200, SEATS, TOKENS)) for _ in range(3))
    found = asyncio.run(open_loop(slow, name, 3 * best, OVERLOAD_S, TOKENS))
    after = asyncio.run(closed_loop(slow, name, 200, SEATS, TOKENS))
    echo(f"an engine of {SEATS} seats, {TOKEN_S * 1000:g} ms a token: peak {best:.1f} requests/s")
    echo(
        f"  offered three times that: {found.goodput:.1f} answered a second "
        f"({found.goodput / best:.2f} of the peak), {found.refused} refused within "
        f"{found.refusal_s * 1000:.0f} ms (p99); afterwards {after:.1f}"
    )
