"""Measure which errors clients get, and for how long, when a process of the server ends or stops or
the disk is full.

    python -m tests.serving.faults --model DIR

Five kinds of clients send requests without a pause. The program prints one table row per fault. The
server has recovered when every kind of request succeeds again without intervention. The full-disk
fault mounts a small tmpfs, which requires root.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.server.media_files import media
from tests.serving import stops
from tests.serving.launch import Server, children, descendants, serve

CALM_S = 3.0  # seconds without a failure after which the server counts as recovered
TIMEOUT_S = 300
DISK = 64 << 20
# With these options, the server detects stalled processes sooner than by default. It kills a
# decoding process after 4 x 5 s of elapsed time.
STALLS = {"stall_s": 3, "stall_restart_s": 10, "decode_timeout_s": 5}
PICTURE = media("img_a.jpg")
KINDS = ("text", "new image", "known image", "new grammar", "upload")

number = count()


@dataclass(frozen=True)
class Event:
    at: float
    kind: str
    status: str  # HTTP status, or the name of a connection error


@dataclass
class Clients:
    url: str
    stored: str  # the id of an uploaded file
    events: list[Event] = field(default_factory=list)

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            await asyncio.gather(*(self._ask(client, kind) for kind in KINDS))

    async def _ask(self, client: httpx.AsyncClient, kind: str) -> None:
        while True:
            try:
                response = await self._once(client, kind)
                status = str(response.status_code)
                if response.status_code == 503:
                    assert response.headers["retry-after"]
                    status += f" {response.json()['error']['code']}"
            except httpx.TransportError:
                status = "connection lost"
            self.events.append(Event(time.monotonic(), kind, status))
            await asyncio.sleep(0.1)

    async def _once(self, client: httpx.AsyncClient, kind: str) -> httpx.Response:
        if kind == "upload":
            return await upload(client, os.urandom(100_000))
        parts: list[Any] = []
        if kind == "new grammar":
            outputs = {"regex": f"a{next(number)}"}
            body = question() | {"structured_outputs": outputs}
            return await client.post("/v1/chat/completions", json=body)
        if kind == "known image":
            parts = [{"type": "file", "file": {"file_id": self.stored}}]
        if kind == "new image":
            files: Any = {
                "request": (None, json.dumps(question())),
                "image": ("a.jpg", another_picture()),
            }
            return await client.post("/v1/chat/completions", files=files)
        return await client.post("/v1/chat/completions", json=question(*parts))

    def since(self, start: float) -> list[Event]:
        return [event for event in self.events if event.at >= start]


def question(*parts: Any) -> dict[str, Any]:
    content = [*parts, {"type": "text", "text": "What is this?"}]
    return {"model": "any", "max_tokens": 2, "messages": [{"role": "user", "content": content}]}


def another_picture() -> bytes:
    """Return PICTURE with new bytes at its end, which decoders ignore, so that its hash is new."""
    return PICTURE + str(next(number)).encode()


async def upload(client: httpx.AsyncClient, data: bytes) -> httpx.Response:
    form = {"purpose": "user_data", "expires_after[anchor]": "created_at"}
    form["expires_after[seconds]"] = "60"
    return await client.post("/v1/files", files={"file": ("a.jpg", data)}, data=form)


# A fault is a function. It returns the time at which the fault ended.
Fault = Callable[[Server, Path], Awaitable[float]]


async def kill_one_decoder(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return kill(children(*server.children("server.encoding.service"))[0])


async def kill_all_decoders(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return kill(*children(*server.children("server.encoding.service")))


async def kill_encoders(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return kill(*server.children("server.encoding.service"))


async def kill_engine(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return kill(process_of(server, "EngineCore"))


async def kill_api(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return kill(server.api_process())


async def kill_compiler(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return kill(process_of(server, "server.api.grammar.process"))


async def kill_tracker(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return kill(process_of(server, "resource_tracker"))


async def stop_one_decoder(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return stop(children(*server.children("server.encoding.service"))[0])


async def stop_encoders(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return stop(*server.children("server.encoding.service"))


async def stop_compiler(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return stop(process_of(server, "server.api.grammar.process"))


async def stop_engine(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return stop(process_of(server, "EngineCore"))


async def stop_api(server: Server, scratch: Path) -> float:  # noqa: ARG001
    return stop(server.api_process())


async def fill_disk(server: Server, scratch: Path) -> float:  # noqa: ARG001
    filler = scratch / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    await asyncio.sleep(CALM_S)
    filler.unlink()
    return time.monotonic()


async def break_a_file(server: Server, scratch: Path) -> float:
    """Truncate a stored file, and restore the file after a request for it has failed."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        file_id = (await upload(client, another_picture())).json()["id"]
        (path,) = scratch.glob(f"*/owners/*/{file_id}")
        whole = path.read_bytes()
        os.truncate(path, len(whole) // 2)
        body = question({"type": "file", "file": {"file_id": file_id}})
        broken = await client.post("/v1/chat/completions", json=body)
        assert broken.status_code == 503, broken.text
        path.write_bytes(whole)
        mended = await client.post("/v1/chat/completions", json=body)
        assert mended.status_code == 200, mended.text
    return time.monotonic()


FAULTS: dict[str, Fault] = {
    "a decoding process is killed": kill_one_decoder,
    "all decoding processes are killed": kill_all_decoders,
    "the encoding service is killed": kill_encoders,
    "the grammar process is killed": kill_compiler,
    "Python's resource tracker is killed": kill_tracker,
    "the disk is full, for 3 s": fill_disk,
    "a stored file cannot be read (the request for it: 503, then 200)": break_a_file,
    "a decoding process is stopped (SIGSTOP)": stop_one_decoder,
    "the encoding service is stopped (SIGSTOP)": stop_encoders,
    "the grammar process is stopped (SIGSTOP)": stop_compiler,
    # After the following faults, the engine starts again.
    "the engine is killed": kill_engine,
    "the API process is killed": kill_api,
    "the engine is stopped (SIGSTOP)": stop_engine,
    "the API process is stopped (SIGSTOP)": stop_api,
}


def kill(*pids: int) -> float:
    return send(signal.SIGKILL, *pids)


def stop(*pids: int) -> float:
    return send(signal.SIGSTOP, *pids)


def send(number: signal.Signals, *pids: int) -> float:
    for pid in pids:
        os.kill(pid, number)
    return time.monotonic()


def process_of(server: Server, part: str) -> int:
    """The first process of the server, parents first, whose command line contains `part`."""
    pids = descendants(server.process.pid)
    return next(pid for pid in pids if part.encode() in command_line(pid))


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):  # the process has ended
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclass(frozen=True)
class Row:
    fault: str
    seen: str
    recovery_s: float

    def __str__(self) -> str:
        return f"| {self.fault} | {self.seen} | {self.recovery_s:.1f} |"


async def watch(name: str, fault: Fault, clients: Clients, server: Server, scratch: Path) -> Row:
    start = time.monotonic()
    over = await fault(server, scratch)
    await until_calm(clients, over)
    events = clients.since(start)
    failed = [event.at for event in events if event.status != "200"]
    back = min((e.at for e in events if e.at > max(failed)), default=over) if failed else over
    return Row(name, what_was_seen(events), max(0.0, back - over))


async def until_calm(clients: Clients, since: float) -> None:
    """Wait until no client has had a failure for CALM_S seconds."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            await asyncio.sleep(0.2)
            calm_since = time.monotonic() - CALM_S
            recent = clients.since(calm_since)
            if calm_since < since or any(event.status != "200" for event in recent):
                continue
            if {event.kind for event in recent} == set(KINDS):
                return


def what_was_seen(events: list[Event]) -> str:
    """Describe the failed requests: for each kind of request, how many got each status."""
    texts = []
    for kind in KINDS:
        seen = Counter(event.status for event in events if event.kind == kind)
        seen.pop("200", None)
        if seen:
            texts.append(f"{kind}: " + ", ".join(f"{n} x {s}" for s, n in seen.items()))
    return "; ".join(texts) or "nothing"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@contextlib.asynccontextmanager
async def running_clients(server: Server) -> AsyncIterator[Clients]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        form = {"purpose": "user_data"}
        made = await client.post("/v1/files", files={"file": ("a.jpg", PICTURE)}, data=form)
    clients = Clients(server.url, made.json()["id"])
    running = asyncio.ensure_future(clients.run())
    try:
        await until_calm(clients, time.monotonic())
        yield clients
    finally:
        running.cancel()
        await asyncio.wait([running])


async def run(server: Server, scratch: Path, only: list[str]) -> list[Row]:
    print("| fault | failures of clients | seconds to recovery |\n|---|---|---|")
    rows = []
    async with running_clients(server) as clients:
        for name, fault in FAULTS.items():
            if only and not any(part in name for part in only):
                continue
            rows.append(await watch(name, fault, clients, server, scratch))
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--log", type=Path, default=Path("faults.log"))
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of the faults")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder)) as disk:
        config = Path(folder) / "settings.yaml"
        config.write_text(json.dumps({"upload_folder": str(disk), **STALLS}))
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        flags = ("--cache=none", f"--config={config}")
        with (
            stops.changed_environment(TMPDIR=str(temporary)),
            serve(options.model, options.log, *flags, start_s=stops.START_S) as server,
        ):
            asyncio.run(run(server, disk, options.only))
        left = stops.remains(temporary) + stops.remains(disk) or "nothing remains"
        print(f"| the server stops after these faults | {left} | |", flush=True)
    if not options.only:
        for row in stops.run(options.model):
            print(row, flush=True)
