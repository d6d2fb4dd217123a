"""Test how a server starts and stops in faulty conditions. The results list what clients see, and
which files and processes remain. tests/serving/faults.py prints the results as rows of its table.
The test with a read-only home folder requires root.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from tests.server.media_files import media
from tests.serving.launch import Server, descendants, free_port, serve

CHAT = "/v1/chat/completions"
STREAMS = 4
START_S = 900  # maximum seconds of a server's start on a machine that runs other programs
Result = tuple[str, float]  # (what clients see, seconds until the server has started or ended)


def question(tokens: int = 2, **fields: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "What is this?"}]
    return {"model": "any", "max_tokens": tokens, "messages": messages, **fields}


def stop_with_open_streams(model: Path, folder: Path) -> Result:
    """Send SIGTERM while streams are open. The server should end after the last stream."""
    with serve(model, folder / "log", "--cache=none", start_s=START_S) as server:
        seen, seconds = asyncio.run(terminate(server))
        return ", ".join(f"{n} x {text}" for text, n in sorted(seen.items())), seconds


async def terminate(server: Server) -> tuple[Counter[str], float]:
    seen: Counter[str] = Counter()
    begun = asyncio.Semaphore(0)

    async def stream(client: httpx.AsyncClient) -> None:
        body = question(200, stream=True, ignore_eos=True)
        last = ""
        with contextlib.suppress(httpx.TransportError):
            async with client.stream("POST", CHAT, json=body) as response:
                async for line in response.aiter_lines():
                    last = line or last
                    begun.release()
        seen["whole stream" if last == "data: [DONE]" else "cut stream"] += 1

    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        streams = [asyncio.ensure_future(stream(client)) for _ in range(STREAMS)]
        for _ in range(STREAMS):
            await begun.acquire()
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*streams)
    await asyncio.to_thread(server.process.wait, 60)
    return seen, time.monotonic() - start


def read_only_home(model: Path, folder: Path) -> Result:
    home = folder / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", home], check=True)
    try:
        with changed_environment(HOME=str(home)):
            start = time.monotonic()
            with serve(model, folder / "log", "--cache=none", start_s=START_S) as server:
                seconds = time.monotonic() - start
                server.chat(**question())  # type: ignore[arg-type]
                return "nothing (the server starts and answers)", seconds
    finally:
        subprocess.run(["umount", "-l", home], check=True)


def damaged_cache(model: Path, folder: Path) -> Result:
    """Start a server with a damaged cache. Its last line of output should name the file."""
    cache = folder / "cache"
    cache.mkdir()
    (cache / "manifest.json").write_text("{")
    command = [sys.executable, "-m", "server.cli.main", "serve", str(model), f"--cache={cache}"]
    start = time.monotonic()
    done = subprocess.run(
        [*command, f"--port={free_port()}"], capture_output=True, text=True, timeout=300
    )
    line = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
    return f"no start, status {done.returncode}: {line[:120]}", time.monotonic() - start


def two_servers_on_one_folder(model: Path, folder: Path) -> Result:
    """Kill one of two servers that share a folder. The other server's files must remain. The next
    start must delete the killed server's files.
    """
    uploads = folder / "uploads"
    uploads.mkdir()
    config = folder / "settings.yaml"
    config.write_text(json.dumps({"upload_folder": str(uploads)}))
    options = ("--cache=none", f"--config={config}")
    with serve(model, folder / "log", *options, start_s=START_S) as kept:
        files = {"file": ("a.jpg", media("img_a.jpg"))}
        form = {"purpose": "user_data"}
        stored = httpx.post(f"{kept.url}/v1/files", files=files, data=form).json()["id"]
        with serve(model, folder / "log2", *options, start_s=START_S) as killed:
            for pid in [killed.process.pid, *descendants(killed.process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        start = time.monotonic()
        with serve(model, folder / "log3", *options, start_s=START_S):
            seconds = time.monotonic() - start
            content = httpx.get(f"{kept.url}/v1/files/{stored}/content")
            count = len(list(uploads.iterdir()))
            return f"file of the other server: {content.status_code}, {count} folders", seconds


STOPS: dict[str, Callable[[Path, Path], Result]] = {
    "SIGTERM while 4 streams are open": stop_with_open_streams,
    "the home folder is read-only": read_only_home,
    "the retrieval cache is damaged": damaged_cache,
    "two servers share an upload folder, and one is killed": two_servers_on_one_folder,
}


def run(model: Path) -> Iterator[str]:
    """Yield a table row for each fault. The row also lists files and processes that remain."""
    for name, fault in STOPS.items():
        with tempfile.TemporaryDirectory() as name_of_folder:
            folder = Path(name_of_folder)
            temporary = folder / "tmp"
            temporary.mkdir()
            with changed_environment(TMPDIR=str(temporary)):
                seen, seconds = fault(model, folder)
            yield f"| {name} | {seen}{remains(temporary)} | {seconds:.1f} |"
            shutil.rmtree(temporary)


def remains(temporary: Path) -> str:
    """List the files in the temporary folder, and count the processes that have it as TMPDIR."""
    names = sorted(path.name for path in temporary.iterdir())
    orphans = [pid for pid in Path("/proc").glob("[0-9]*") if uses(pid, temporary)]
    text = f"; left in the temporary folder: {names}" if names else ""
    return text + (f"; {len(orphans)} orphans" if orphans else "")


def uses(process: Path, temporary: Path) -> bool:
    try:
        return os.fsencode(temporary) in (process / "environ").read_bytes()
    except OSError:
        return False


@contextlib.contextmanager
def changed_environment(**variables: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
