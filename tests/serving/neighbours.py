"""Measure how much attackers (tests/serving/attackers.py) slow down a steady client of the server.

    python -m tests.serving.neighbours [--model FOLDER] [--answers N] [--rounds N] [--only NAME...]

Attacks and quiet periods alternate. The program compares the steady client's 95th percentile and
errors: under an abuse, the percentile may be MAX_RATIO times that of the quiet periods; under many
permitted requests, it may not be higher than in the worst period with as much honest load. The
program also checks that engine and encoding service are idle 10 s after an attack, and that a
second attack takes no more memory than the first.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.conftest import convert_fixtures
from tests.server.media_files import media
from tests.serving.attackers import ATTACKERS, CHAT, Entry, by_turns, chat, run_process
from tests.serving.launch import Server, descendants, serve

STEADY, ATTACKING, OPERATOR = "sk-steady", "sk-attacker", "sk-operator"
IDLE_S = 10
MAX_RATIO = 2.0
MAX_GROWTH_MB = 50
WARM_S = 1.0  # how long an attack runs before the measurement
# Attacks run in processes of their own, so that their work does not delay the steady client.
processes = multiprocessing.get_context("forkserver")
GAUGES = ("bindserve_in_stage", "vllm:num_requests_running", "vllm:num_requests_waiting")


@dataclass
class Periods:
    """The steady client's answers in the periods of one kind."""

    seconds: list[list[float]] = field(default_factory=list)  # of each answer in each period
    errors: Counter[str] = field(default_factory=Counter)

    def p95(self) -> float:
        return percentile([each for period in self.seconds for each in period])

    def worst_p95(self) -> float:
        return max(map(percentile, self.seconds))


def percentile(seconds: list[float]) -> float:
    return float(np.percentile(seconds, 95)) if seconds else float("inf")


@dataclass
class Row:
    name: str
    quiet: Periods
    attacked: Periods
    honest: Periods | None
    idle: str
    growth_mb: float

    @property
    def ratio(self) -> float:
        reference = self.honest or self.quiet
        return self.attacked.p95() / reference.p95()

    def faults(self) -> list[str]:
        faults = [f"{n} x {error}" for error, n in self.attacked.errors.items()]
        faults += [self.idle] if self.idle else []
        if self.honest is None:
            faults += [f"{self.ratio:.1f} times"] if self.ratio > MAX_RATIO else []
        elif self.attacked.p95() > self.honest.worst_p95():
            faults += [f"above {self.honest.worst_p95() * 1000:.0f} ms"]
        return faults + [f"{self.growth_mb:.0f} MB"] * (self.growth_mb > MAX_GROWTH_MB)

    def __str__(self) -> str:
        honest = f"{self.honest.p95() * 1000:.0f}" if self.honest else ""
        return (
            f"| {self.name} | {self.quiet.p95() * 1000:.0f} | {honest} | "
            f"{self.attacked.p95() * 1000:.0f} | {self.ratio:.2f} | {self.growth_mb:.0f} | "
            f"{', '.join(self.faults()) or 'none'} |"
        )


class Steady:
    """The steady client: short chats, every fourth one with a new picture."""

    def __init__(self, url: str) -> None:
        headers = {"Authorization": f"Bearer {STEADY}"}
        self.client = httpx.AsyncClient(base_url=url, headers=headers, timeout=120)
        self.sent = 0

    async def measure(self, answers: int, periods: Periods) -> None:
        seconds: list[float] = []
        periods.seconds.append(seconds)
        for _ in range(answers):
            start = time.monotonic()
            try:
                response = await self._ask()
            except httpx.HTTPError as error:
                periods.errors[type(error).__name__] += 1
                continue
            if response.status_code == 200:
                seconds.append(time.monotonic() - start)
            else:
                code = response.json()["error"]["code"]
                periods.errors[f"{response.status_code} {code}"] += 1

    async def _ask(self) -> httpx.Response:
        self.sent += 1
        if self.sent % 4:
            return await self.client.post(CHAT, json=chat(f"question {self.sent}"))
        picture = media("img_a.jpg") + f"{os.getpid()} {self.sent}".encode()
        files: Any = {"request": (None, json.dumps(chat())), "a": ("a.jpg", picture)}
        return await self.client.post(CHAT, files=files)


class Comparison:
    def __init__(self, server: Server, answers: int, rounds: int) -> None:
        self.server, self.answers, self.rounds = server, answers, rounds
        self.steady = Steady(server.url)

    async def row(self, name: str, entry: Entry) -> Row:
        quiet, attacked = Periods(), Periods()
        honest, memory = (Periods() if entry.honest else None), []
        each = -(-self.answers // self.rounds)
        idle = ""
        for _ in range(self.rounds):
            await self.steady.measure(each, quiet)
            if honest is not None:
                await self._under(entry.honest, each, honest)
                await self._until_idle()
            await self._under(name, each, attacked)
            idle = await self._until_idle() or idle
            memory.append(self._memory_mb())
        growth = memory[1] - memory[0] if len(memory) > 1 else 0
        return Row(name, quiet, attacked, honest, idle, growth)

    async def _under(self, name: str, answers: int, periods: Periods) -> None:
        attack = processes.Process(target=run_process, args=(name, self.server.url, ATTACKING))
        attack.start()
        try:
            await asyncio.sleep(WARM_S)
            await self.steady.measure(answers, periods)
            assert attack.is_alive(), f"the attack {name!r} ended"
        finally:
            attack.terminate()
            attack.join()

    async def _until_idle(self) -> str:
        """Wait until the server is idle ("" as result), or describe its load after IDLE_S."""
        deadline = time.monotonic() + IDLE_S
        while (busy := await self._busy()) and time.monotonic() < deadline:
            pass
        return busy

    async def _busy(self) -> str:
        before = self._cpu_s()
        await asyncio.sleep(1)
        used = self._cpu_s() - before
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        text = (await self.steady.client.get("/metrics", headers=headers)).text
        above = [name for name in GAUGES if any(re.findall(rf"^{name}\S* [1-9]", text, re.M))]
        return ", ".join([*above, *([f"CPU {used:.1f} s/s"] if used > 0.3 else [])])

    def _processes(self) -> list[Path]:
        pids = descendants(self.server.process.pid)
        return [Path(f"/proc/{pid}") for pid in pids if Path(f"/proc/{pid}").exists()]

    def _cpu_s(self) -> float:
        """Return the CPU seconds of all processes except the API process, which answers this
        program's requests.
        """
        api, total = self.server.api_process(), 0.0
        for process in self._processes():
            if process.name != str(api):
                values = (process / "stat").read_text().rpartition(")")[2].split()
                total += (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
        return total

    def _memory_mb(self) -> float:
        sizes = [(each / "statm").read_text().split() for each in self._processes()]
        return sum(int(s[1]) - int(s[2]) for s in sizes) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure(server: Server, answers: int, rounds: int, only: list[str]) -> list[Row]:
    comparison, rows = Comparison(server, answers, rounds), []
    # not measured, because the first requests are slower
    await comparison.steady.measure(20, Periods())
    print("| attacker | quiet p95, ms | honest | attacked | ratio | growth, MB | faults |")
    print("|---|---|---|---|---|---|---|")
    for name, entry in by_turns(ATTACKERS):
        if not only or name in only or entry.kind in only:
            rows.append(await comparison.row(name, entry))
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="names or kinds of attackers")
    options = parser.parse_args()
    processes.set_forkserver_preload(["tests.serving.attackers"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "keys").write_text(f"{STEADY}\n{ATTACKING}\n")
        (folder / "operator").write_text(f"{OPERATOR}\n")
        model = options.model or convert_fixtures(folder, ["finetune"], [])["finetune"]
        keys = (f"--api-key-file={folder / 'keys'}", f"--metrics-key-file={folder / 'operator'}")
        with serve(model, folder / "log", "--cache=none", *keys, start_s=900) as server:
            rows = asyncio.run(measure(server, options.answers, options.rounds, options.only))
    raise SystemExit(any(row.faults() for row in rows))


if __name__ == "__main__":
    main()
