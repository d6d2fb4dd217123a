"""The supervisor restarts programs that end. Small programs replace the server's processes."""

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from server.process import supervisor
from server.process.restart_page import MAX_HEAD, RestartPage
from server.process.supervisor import Program, Stalls, Supervisor
from server.settings import Settings
from tests.server.waiting import until

PROGRAMS = (
    Program("serving", "tests.server.supervised_serving", answers_http=True),
    Program("encoding", "tests.server.supervised_encoding"),
)


class Running:
    def __init__(self, folder: Path, stall_restart_s: float) -> None:
        self.folder = folder
        self.task = asyncio.ensure_future(
            Supervisor(
                Settings(model=folder, stall_restart_s=stall_restart_s), folder, PROGRAMS
            ).run()
        )

    def pids(self, name: str) -> list[int]:
        path = self.folder / name
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    async def url(self) -> str:
        await until(lambda: (self.folder / "port").exists())
        return f"http://127.0.0.1:{(self.folder / 'port').read_text()}"


@pytest.fixture
async def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Running]]:
    monkeypatch.setattr(supervisor, "MAX_WAIT_S", 0.05)
    started: list[Running] = []

    def go(stall_restart_s: float = 300, **behaviour: object) -> Running:
        (tmp_path / "behaviour").write_text(json.dumps(behaviour))
        started.append(Running(tmp_path, stall_restart_s))
        return started[-1]

    yield go
    for each in started:
        if not each.task.done():
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await each.task == 0
        for name in ("serving", "encoding"):
            for pid in each.pids(name):
                assert not Path(f"/proc/{pid}").exists()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)


async def answer(url: str, path: str) -> tuple[int, object]:
    async with httpx.AsyncClient(timeout=30) as client:
        response = await client.post(f"{url}{path}", content=b"x" * 100_000)
        return response.status_code, response.json()


async def until_served(url: str) -> None:
    async with asyncio.timeout(60):
        while (await answer(url, "/ready"))[0] != 200:
            await asyncio.sleep(0.01)


async def test_what_is_killed_is_started_again(start: Callable[..., Running]) -> None:
    running = start()
    url = await running.url()
    await until_served(url)
    # The serving program already responds, but the encoding program may start later.
    await until(lambda: bool(running.pids("encoding")))
    for round_ in range(1, 3):
        os.kill(running.pids("encoding")[-1], signal.SIGKILL)
        await until(lambda: len(running.pids("encoding")) == round_ + 1)  # noqa: B023
        assert len(running.pids("serving")) == round_
        os.kill(running.pids("serving")[-1], signal.SIGKILL)
        await until(lambda: len(running.pids("serving")) == round_ + 1)  # noqa: B023
        await until_served(url)


@pytest.mark.parametrize(
    "behaviour", [{"encoding_stops": True}, {"encoding_stalled_s": 5.0}], ids=["stops", "reports"]
)
async def test_a_stalled_program_is_started_again(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, behaviour: dict[str, object]
) -> None:
    """The test replaces the supervisor's sleep of one second by 0.1 s, so that a limit of 5 s is
    reached after 0.5 s.
    """
    ticks = asyncio.sleep
    monkeypatch.setattr(supervisor.asyncio, "sleep", lambda s: ticks(0.1 if s == 1 else s))
    running = start(stall_restart_s=5, **behaviour)
    await until(lambda: len(running.pids("encoding")) >= 2)
    await until_served(await running.url())
    assert len(running.pids("serving")) == 1


def test_only_silence_and_reported_stalls_count() -> None:
    stalls = Stalls()
    stalls.tick()
    assert stalls.seconds() == 0, "the program has not reported anything yet"
    stalls.heard(1, 0)
    stalls.heard(2, 4)
    stalls.tick()
    assert stalls.seconds() == 5
    stalls.heard(2, 0)
    stalls.tick()
    assert stalls.seconds() == 2, "process 1 has been silent for two ticks"


async def test_meanwhile_the_server_is_alive_and_not_ready(start: Callable[..., Running]) -> None:
    running = start(slow_restart=True)
    url = await running.url()
    await until_served(url)
    os.kill(running.pids("serving")[-1], signal.SIGKILL)
    await until(lambda: len(running.pids("serving")) == 2)
    for path in ("/ready", "/v1/chat/completions", "/healthy"):
        status, body = await answer(url, path)
        assert status == 503
        assert body["error"]["code"] == "starting"  # type: ignore[index]
    assert await answer(url, "/health") == (200, {"status": "alive"})
    (running.folder / "go").touch()
    await until_served(url)


async def test_what_a_child_was_given_its_own_children_do_not_get(
    start: Callable[..., Running],
) -> None:
    running = start()
    await until_served(await running.url())
    # The supervisor passes the socket also to a restarted program.
    os.kill(running.pids("serving")[-1], signal.SIGKILL)
    await until(lambda: len(running.pids("serving")) == 2)
    await until_served(await running.url())
    assert (running.folder / "inherited").read_text() == "[]"


async def test_a_first_start_that_fails_is_not_repeated(start: Callable[..., Running]) -> None:
    running = start(serving_exits=2)
    assert await running.task == 2
    assert len(running.pids("serving")) == 1


async def test_starts_that_come_to_nothing_end(start: Callable[..., Running]) -> None:
    running = start(restart_exits=7)
    await until_served(await running.url())
    os.kill(running.pids("serving")[-1], signal.SIGKILL)
    assert await running.task == 7
    assert len(running.pids("serving")) == 1 + supervisor.MAX_FAILURES + 1


def test_it_imports_neither_vllm_nor_torch() -> None:
    import subprocess

    script = """if True:
        import sys, server.process.supervisor
        print({"vllm", "torch", "fastapi"} & sys.modules.keys())"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert out.stdout.strip() == "set()", out.stderr


async def test_a_head_without_an_end_costs_only_its_own_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.append(context)
        )
        restart_page = RestartPage()
        restart_page.resume(listener)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 1))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200
            assert (await client.head(f"http://127.0.0.1:{port}/health")).status_code == 200
        restart_page.pause()
        await asyncio.sleep(0)
        gc.collect()
        assert not failures


async def test_the_restart_page_answers_head_without_a_body() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        restart_page = RestartPage()
        restart_page.resume(listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"HEAD /ready HTTP/1.1\r\n\r\n")
        response = await reader.read()
        writer.close()
        restart_page.pause()
    assert response.startswith(b"HTTP/1.1 503 ")
    assert response.endswith(b"\r\n\r\n")


def test_programs_may_open_many_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recorder:
        def __init__(self, *_: object) -> None: ...

        async def run(self) -> int:
            return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    monkeypatch.setattr(supervisor, "Supervisor", Recorder)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    expected = min(before[1], supervisor.MAX_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, expected - 1), before[1]))
    try:
        assert supervisor.run(Settings(model=tmp_path, upload_folder=tmp_path), ()) == expected
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
