"""Check that damaged files of every format do not harm a running server.

    python -m tests.serving.malformed --files 20000 [--model DIR]

A second client sends good files all the time. The program checks that no response has a status of
500 or above, that the second client gets only status 200, that the embeddings of good files do not
change, and that the memory of all processes grows by at most 50 MiB after the first 5,000 files.
"""

import argparse
import asyncio
import base64
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from model_ext.imagebind.preprocess.sniff import sniff
from tests.serving.launch import Server, children, descendants, serve
from tests.serving.seeds import bombs, seeds

CLIENTS = 8
EVERY = 1000
STEADY, MAX_GROWTH = 5, 50  # after STEADY * EVERY files, memory grows by at most MAX_GROWTH MiB
# These formats allow trailing bytes.
GOOD = {"jpg": "image", "wav": "audio", "avi": "video"}

# A request must name the modality of an imu file, because the server cannot recognise its format.
NOT_SNIFFED = {"imu": "imu"}
NUMBERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]

number = count()


@dataclass
class Report:
    """The results of a run.

    `sent`, `decoded` and `embedded` count by format the files that were sent, reached a decoder,
    and got an embedding. `failed`: responses with a status of 500 or above. `neighbour`: statuses
    of the second client. `changed`: good files whose embedding changed. `memory`: MiB after every
    1,000 files, and before the first one. `decoders`: ids of the decoding processes.
    """

    sent: Counter[str] = field(default_factory=Counter)
    decoded: Counter[str] = field(default_factory=Counter)
    embedded: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    neighbour: Counter[str] = field(default_factory=Counter)
    changed: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    decoders: set[int] = field(default_factory=set)
    seconds: float = 0

    def __str__(self) -> str:
        rows = [f"{'format':<10} {'sent':>6} {'decoded':>8} {'embedded':>9}"]
        for name in sorted(self.sent):
            numbers = (self.sent[name], self.decoded[name], self.embedded[name])
            rows.append("{:<10} {:>6} {:>8} {:>9}".format(name, *numbers))
        sent, decoded = self.sent.total(), self.decoded.total()
        return "\n".join(
            [
                *rows,
                f"{sent} files in {self.seconds:.0f} s, {decoded} ({decoded / sent:.0%}) reached "
                f"a decoder, {len(self.failed)} answers of 500 and above",
                f"statuses of the second client: {dict(self.neighbour)}",
                f"files in formats of the corpus: {self.corpus() / sent:.0%}",
                f"good files that changed: {len(self.changed)}; decoding processes used: "
                f"{len(self.decoders)}; memory in MiB: {self.memory}",
            ]
        )

    def corpus(self) -> int:
        """Return the number of files whose format is one of tests/corpus.py."""
        return sum(number for name, number in self.sent.items() if "-" in name)

    def assert_well(self) -> None:
        assert not self.failed, self.failed[:3]
        assert not self.changed
        assert self.neighbour.keys() == {"200"}
        assert self.decoded.total() >= 0.3 * self.sent.total()
        if len(self.memory) > STEADY:
            assert self.memory[-1] - self.memory[STEADY] <= MAX_GROWTH, self.memory


def damage(data: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """Return a copy of a file's bytes with one or two kinds of damage."""
    for _ in range(dice.choice([1, 1, 1, 2])):
        if not data:
            return data
        match dice.randrange(8):
            case 0:  # Cut the file at a multiple of 1/16 of its length.
                data = data[: len(data) * dice.randrange(16) // 16]
            case 1:  # Cut the file anywhere.
                data = data[: dice.randrange(len(data))]
            case 2 | 3:  # Flip bits. In half of the cases, the signature stays unchanged.
                start = dice.choice([0, min(16, len(data) - 1)])
                changed = bytearray(data)
                for _ in range(dice.choice([1, 4, 16, 64])):
                    changed[dice.randrange(start, len(changed))] ^= 1 << dice.randrange(8)
                data = bytes(changed)
            case 4:  # Write a wrong number into the header.
                at, value = dice.randrange(min(len(data), 300)), dice.choice(NUMBERS)
                order, size = dice.choice(["big", "little"]), dice.choice([1, 2, 4])
                wrong = (value % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
                data = data[:at] + wrong + data[at + size :]
            case 5:  # Remove a piece.
                at = dice.randrange(len(data))
                data = data[:at] + data[at + dice.randrange(1, 200) :]
            case 6:  # Repeat a piece.
                at, size = dice.randrange(len(data)), dice.randrange(1, 4000)
                data = data[: at + size] + data[at:]
            case 7:  # Join the head of one file and the body of another.
                head = dice.choice([12, 40, 200])
                data = data[:head] + dice.choice(others)[head:]
    return data


def damaged_files(total: int, seed: int) -> list[tuple[str, bytes]]:
    """Return `total` files as (format, bytes).

    The first files expand to a huge size, are empty, or have another format than stated.
    """
    dice, good = random.Random(seed), seeds()
    files = list(bombs().values())
    files += [(name, b"") for name in good]
    for name in good:
        others = [other for other in good if other != name]
        files += [(name, good[other]) for other in dice.sample(others, 2)]
    names = [name for name in good for _ in range(1 if name in ("mp4", "avi", "mkv") else 3)]
    dice.shuffle(names)
    for name in islice(cycle(names), max(0, total - len(files))):
        files.append((name, damage(good[name], list(good.values()), dice)))
    return files[:total]


def file_part(name: str, data: bytes) -> dict[str, Any]:
    """Return a file of the format `name` as a content part."""
    text = base64.b64encode(data).decode()
    part: dict[str, Any] = {"type": "file", "file": {"file_data": text, "filename": f"a.{name}"}}
    return part | ({"modality": NOT_SNIFFED[name]} if name in NOT_SNIFFED else {})


class Attack:
    def __init__(self, server: Server, client: httpx.AsyncClient) -> None:
        self.server, self.client, self.report = server, client, Report()
        self.before: dict[str, Any] = {}

    async def embed(self, name: str, data: bytes) -> httpx.Response:
        body = {"model": "any", "input": [file_part(name, data)]}
        return await self.client.post("/v1/embeddings", json=body)

    async def send(self, name: str, data: bytes) -> None:
        response, report = await self.embed(name, data), self.report
        report.sent[name] += 1
        passes = name in NOT_SNIFFED or sniff(data[:8192], f"a.{name}") is not None
        if response.status_code == 200:
            report.decoded[name] += 1
            report.embedded[name] += 1
        elif response.status_code >= 500:
            report.failed.append(f"{name} of {len(data)} bytes: {response.text[:200]}")
        elif passes and response.json()["error"]["code"] == "invalid_media":
            report.decoded[name] += 1

    async def good(self, name: str) -> httpx.Response:
        """Send a good file with new bytes at its end, so that no cache contains its embedding."""
        return await self.embed(name, seeds_once[name] + b"%d" % next(number))

    async def check(self) -> None:
        for name in GOOD:
            response = await self.good(name)
            vector = response.json()["data"][0]["embedding"]
            if not np.allclose(vector, self.before.setdefault(name, vector), rtol=0, atol=1e-6):
                self.report.changed.append(name)
        self.report.memory.append(self.memory())
        print(f"{self.report.sent.total()} files, {self.report.memory[-1]} MiB", flush=True)

    async def neighbour(self) -> None:
        while True:
            try:
                response = await self.good(random.choice(list(GOOD)))
                self.report.neighbour[str(response.status_code)] += 1
            except httpx.TransportError as error:
                self.report.neighbour[type(error).__name__] += 1
            self.report.decoders |= set(children(self.service()))
            await asyncio.sleep(0.5)

    def service(self) -> int:
        (pid,) = self.server.children("server.encoding.service")
        return pid

    def memory(self) -> int:
        """Return the memory of all processes of the server in MiB.

        A page that processes share counts once.
        """
        pids = [self.server.process.pid, *descendants(self.server.process.pid)]
        return sum(map(private_memory, pids)) >> 20


seeds_once = seeds()


def private_memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # The process has ended.
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


async def attack(server: Server, files: list[tuple[str, bytes]]) -> Report:
    started = time.monotonic()
    # Each request opens a new connection, so that a keep-alive timeout cannot cause an error.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=server.url, timeout=300, limits=limits) as client:
        attack = Attack(server, client)
        await attack.check()
        neighbour = asyncio.ensure_future(attack.neighbour())
        for begin in range(0, len(files), EVERY):
            waiting = iter(files[begin : begin + EVERY])

            async def one_client(waiting: Any = waiting) -> None:
                for name, data in waiting:
                    await attack.send(name, data)

            await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
            await attack.check()
        neighbour.cancel()
    attack.report.seconds = time.monotonic() - started
    return attack.report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--skip", type=int, default=0, help="number of files to skip at the start")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("malformed.log"))
    options = parser.parse_args()
    files = damaged_files(options.files, options.seed)[options.skip :]
    with serve(options.model, options.log, "--cache=none") as server:
        report = asyncio.run(attack(server, files))
    print(report)
    report.assert_well()
