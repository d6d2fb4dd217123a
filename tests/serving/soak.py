"""Check that a server releases all resources after minutes of distinct and cancelled requests.

    python -m tests.serving.soak --model DIR [--minutes 30] [--pause SECONDS]

Every request differs, so that no cache has its result. A third of the requests are cancelled while
they are uploaded, read from disk, decoded, encoded, prefilled or streamed. After each round, when
the server is idle, the program records gauges, files, descriptors, threads and memory.
"""

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.embedding_service.memory import memory
from tests.serving.launch import Server, descendants, serve
from tests.serving.seeds import seeds

CLIENTS = 6
SEEDS = {name: data for name, data in seeds().items() if name in ("jpg", "wav", "avi", "mkv")}
QUIET_S = 8
GAUGES = ("bindserve_in_stage", "vllm:num_requests_running", "vllm:num_requests_waiting")
# Seconds after which a client disconnects. Most phases of a request take a few milliseconds.
LEAVING = [0.0005, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0]

number = count()


@dataclass(frozen=True)
class State:
    """The resources that an idle server uses."""

    gauges: float
    kv_usage: float
    files: int
    descriptors: int
    threads: int
    memory: int  # memory in bytes; a page that processes share counts once

    def __str__(self) -> str:
        return (
            f"gauges {self.gauges:g}, KV {self.kv_usage:g}, files {self.files}, descriptors "
            f"{self.descriptors}, threads {self.threads}, memory {self.memory >> 20} MiB"
        )


@dataclass
class Report:
    answers: Counter[str] = field(default_factory=Counter)
    left: Counter[float] = field(default_factory=Counter)
    states: list[tuple[float, State]] = field(default_factory=list)  # (minute, state)

    def slope(self) -> float:
        """Return how fast the memory grows after the warm-up, in MiB per minute (least squares)."""
        minutes, states = zip(*self.states, strict=True)
        memory = [state.memory / (1 << 20) for state in states]
        return float(np.polyfit(minutes, memory, 1)[0])

    def assert_well(self, growth: int = 48 << 20) -> None:
        """Raise AssertionError if the last state has more resources than the first state."""
        (_, first), (_, last) = self.states[0], self.states[-1]
        assert self.answers.keys() <= {"200", "left"}, self.answers
        assert last.gauges == last.kv_usage == 0
        assert last.files == first.files
        assert last.descriptors <= first.descriptors + 2
        assert last.threads <= first.threads + 2
        assert last.memory <= first.memory + growth


def state_of(server: Server, folder: Path) -> State:
    page = httpx.get(f"{server.url}/metrics").text
    pids = descendants(server.process.pid)
    return State(
        gauges=sum(metric(page, name) for name in GAUGES),
        kv_usage=metric(page, "vllm:kv_cache_usage_perc"),
        files=sum(path.is_file() for path in folder.rglob("*")),
        descriptors=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        threads=sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids),
        memory=sum(memory(pid, "Pss") for pid in pids),
    )


def metric(page: str, name: str) -> float:
    lines = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def one_request(client: httpx.AsyncClient, dice: random.Random) -> httpx.Response:
    name = dice.choice(list(SEEDS))
    data = SEEDS[name] + b"%d" % next(number)
    text = {"type": "text", "text": f"What is item {next(number)}?"}
    body: dict[str, Any] = {
        **{"model": "any", "messages": [{"role": "user", "content": [text]}]},
        **{"max_tokens": dice.choice([1, 4, 16]), "n": dice.choice([1, 1, 2])},
        **{"stream": dice.random() < 0.5},
    }
    if dice.random() < 0.3:  # Upload the file, and refer to it by its id in the chat.
        form = {"purpose": "user_data"}
        made = await client.post("/v1/files", files={"file": (f"a.{name}", data)}, data=form)
        made.raise_for_status()
        file_id = made.json()["id"]
        part = {"type": "file", "file": {"file_id": file_id}}
        body["messages"][0]["content"].append(part)
        try:
            return await client.post("/v1/chat/completions", json=body)
        finally:
            await asyncio.shield(client.delete(f"/v1/files/{file_id}"))
    files: Any = {"request": (None, json.dumps(body)), "file": (f"a.{name}", data)}
    return await client.post("/v1/chat/completions", files=files)


async def one_client(
    url: str, report: Report, dice: random.Random, until: float, pause: float
) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(pause)
        leaves = dice.choice(LEAVING) if dice.random() < 0.33 else None
        async with httpx.AsyncClient(base_url=url, timeout=300) as client:
            try:
                async with asyncio.timeout(leaves):
                    response = await one_request(client, dice)
                report.answers[str(response.status_code)] += 1
            except TimeoutError:
                assert leaves is not None
                report.answers["left"] += 1
                report.left[leaves] += 1


async def ask(server: Server, report: Report, seconds: float, seed: int, pause: float) -> None:
    until = time.monotonic() + seconds
    dice = [random.Random(seed * CLIENTS + i) for i in range(CLIENTS)]
    await asyncio.gather(*(one_client(server.url, report, die, until, pause) for die in dice))
    await asyncio.sleep(QUIET_S)
    await delete_all(server)


async def delete_all(server: Server) -> None:
    """Delete the files of clients that uploaded a file and disconnected."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        with contextlib.suppress(httpx.TransportError):
            for file in (await client.get("/v1/files")).json()["data"]:
                await client.delete(f"/v1/files/{file['id']}")


def soak(server: Server, folder: Path, minutes: float, rounds: int, pause: float = 0) -> Report:
    """Run rounds of requests, and record the server's state after each round.

    The first round warms the server up.
    """
    report, started = Report(), time.monotonic()
    for round_ in range(rounds):
        asyncio.run(ask(server, report, minutes * 60 / rounds, round_, pause))
        state = state_of(server, folder)
        report.states.append(((time.monotonic() - started) / 60, state))
        answers = dict(report.answers)
        print(f"{report.states[-1][0]:5.1f} min: {state}; answers {answers}", flush=True)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument(
        "--pause", type=float, default=0, help="Seconds between a client's requests."
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        files = Path(home) / "files"
        files.mkdir()
        config = Path(home) / "settings.yaml"
        # The result cache is off, so that a growth of the memory is a leak.
        config.write_text(json.dumps({"upload_folder": str(files), "embedding_cache_bytes": 0}))
        log, option = Path(home) / "log", f"--config={config}"
        with serve(options.model, log, "--cache=none", option) as server:
            report = soak(server, files, options.minutes, rounds=10, pause=options.pause)
    print(f"memory: {report.slope():+.2f} MiB a minute")
    report.assert_well()
    print(f"passed; disconnected clients by seconds: {dict(sorted(report.left.items()))}")
