"""The process of a side model, its queue and its client, with real sockets and small models."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from model_ext.side import SideData, Task, stop_if_cancelled
from server.context import RequestContext, entered
from server.errors import BadRequest, InternalError, Unavailable
from server.process import data_file, supervisor
from server.process.error_message import MessageError
from server.process.supervisor import Program, Supervisor
from server.settings import Settings
from server.side.catalog import socket_path
from server.side.client import SideClient
from server.side.messages import SideState, decode, encode
from server.side.service import SideService
from server.side.work_queue import Queued, WorkQueue
from tests.server.side.models import Doubler
from tests.server.waiting import until


def task(number: int = 0, **document: object) -> SideData:
    return SideData(
        {"kind": "a", "number": number, **document}, {"x": np.array([number], np.float32)}
    )


@pytest.fixture
def model() -> Doubler:
    return Doubler()


@pytest.fixture
async def client(tmp_path: Path, model: Doubler) -> AsyncIterator[SideClient]:
    path = socket_path(tmp_path, "doubler")
    running = asyncio.ensure_future(SideService("doubler", model, path, 8).run())
    client = SideClient("doubler", path, cache_bytes=1 << 20)
    await client.state()
    yield client
    await client.close()
    running.cancel()
    await asyncio.wait([running])


async def test_results_belong_to_their_tasks(client: SideClient) -> None:
    results = await asyncio.gather(*(client.ask(task(n)) for n in range(4)))
    assert [result.document["number"] for result in results] == list(range(4))
    assert [result.arrays["y"].tolist() for result in results] == [[2 * n] for n in range(4)]


async def test_waiting_tasks_of_one_kind_are_one_batch(client: SideClient, model: Doubler) -> None:
    first = asyncio.ensure_future(client.ask(task(0, steps=80)))
    await until(lambda: model.steps > 0)
    kinds = [asyncio.ensure_future(client.ask(task(n, kind="ab"[n % 2]))) for n in (1, 2, 3)]
    await asyncio.gather(first, *kinds)
    assert sorted(map(sorted, model.batches[1:]), key=len) == [[2], [1, 3]]


async def test_a_bad_task_fails_alone(client: SideClient, model: Doubler) -> None:
    first = asyncio.ensure_future(client.ask(task(0, steps=80)))
    await until(lambda: model.steps > 0)
    batch = [task(1), task(2, bad=True), task(3, fails=True)]
    answers = await asyncio.gather(*map(client.ask, batch), return_exceptions=True)
    await first
    assert isinstance(answers[0], SideData)
    assert isinstance(answers[1], BadRequest)
    assert answers[1].message == "the picture is bad"
    assert isinstance(answers[2], InternalError)
    with pytest.raises(BadRequest, match="no kind"):
        await client.ask(SideData({}))


async def test_a_full_queue_rejects_and_another_client_still_gets_a_place(
    client: SideClient, model: Doubler
) -> None:
    async def ask(who: str, data: SideData) -> SideData:
        with entered(RequestContext(b"", key_salt=who)):
            return await client.ask(data)

    first = asyncio.ensure_future(ask("one", task(0, steps=50)))
    await until(lambda: model.steps > 0)
    answers = [asyncio.ensure_future(ask("one", task(n))) for n in range(1, 7)]
    await until(lambda: any(answer.done() for answer in answers))
    await ask("other", task(9))
    results = await asyncio.gather(first, *answers, return_exceptions=True)
    rejected = [each for each in results if isinstance(each, Unavailable)]
    assert len(rejected) == 2  # one client may use half of the 8 places
    assert {each.code for each in rejected} == {"side_queue_full"}


async def test_a_client_that_leaves_stops_its_task(client: SideClient, model: Doubler) -> None:
    running = asyncio.ensure_future(client.ask(task(0, steps=100_000)))
    await until(lambda: model.steps > 0)  # otherwise both tasks could be in one batch
    waiting = asyncio.ensure_future(client.ask(task(1)))
    running.cancel()
    assert (await waiting).arrays["y"].tolist() == [2]
    assert model.steps < 10_000


async def test_parts_arrive_before_the_result_and_in_order(client: SideClient) -> None:
    parts: list[object] = []
    await client.ask(task(0, parts=list(range(500))), lambda part: parts.append(part["part"]))
    assert parts == list(range(500))


async def test_equal_files_are_one_run_for_one_key_only(client: SideClient, model: Doubler) -> None:
    async def load() -> SideData:
        return task(7)

    async def cached(who: str, language: str) -> float:
        with entered(RequestContext(b"", key_salt=who)):
            result = await client.cached(b"digest", {"language": language}, load)
            assert not result.arrays["y"].flags.writeable
            return float(result.arrays["y"][0])

    for _ in range(2):
        both = [cached(who, "en") for who in ("one", "other") for _ in range(3)]
        assert await asyncio.gather(*both, cached("one", "de")) == [14] * 7
    assert sum(map(len, model.batches)) == 3


async def test_a_side_model_that_is_down_is_503_until_it_is_back(tmp_path: Path) -> None:
    path = socket_path(tmp_path, "doubler")
    client = SideClient("doubler", path)
    for _ in range(2):
        assert not client.up
        with pytest.raises(Unavailable) as caught:
            await client.ask(task())
        assert caught.value.code == "doubler_unavailable"
        running = asyncio.ensure_future(SideService("doubler", Doubler(), path, 8).run())
        await until(lambda: client.up)
        await client.ask(task())
        running.cancel()
        await asyncio.wait([running])
        await until(lambda: not client.up)
    await client.close()


async def test_the_supervisor_restarts_a_killed_side_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_WAIT_S", 0.05)
    program = Program("the doubler", "tests.server.side.models")
    running = Supervisor(Settings(model=tmp_path), tmp_path, (program,))
    server = asyncio.ensure_future(running.run())
    client = SideClient("doubler", socket_path(tmp_path, "doubler"))
    await client.state()
    process = running._children[0]._process
    assert process is not None
    work = asyncio.ensure_future(client.ask(task(0, steps=100_000)))
    await until(lambda: client._state is not None and bool(client._state.batches))
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(Unavailable):
        await work
    await until(lambda: not client.up)
    await until(lambda: client.up)
    assert (await client.ask(task(3))).arrays["y"].tolist() == [6]
    await client.close()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(30):
        assert await server == 0
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


@pytest.mark.parametrize("packet", [b"{", b"[1]", b'{"kind": "Other"}', b'{"kind": "SideRequest"}'])
async def test_the_service_closes_connections_that_break_the_protocol(
    client: SideClient, tmp_path: Path, packet: bytes
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stranger, str(socket_path(tmp_path, "doubler")))
        await loop.sock_sendall(stranger, packet)
        assert await loop.sock_recv(stranger, 1) == b""
    await client.ask(task())


def test_data_is_unchanged_in_another_process() -> None:
    data = SideData({"text": "a\nb"}, {"x": np.arange(6).reshape(2, 3), "y": np.zeros(0)})
    copy = data_file.read(data_file.write(data))
    assert copy.document == data.document
    for name, array in data.arrays.items():
        assert (copy.arrays[name] == array).all()
        assert copy.arrays[name].dtype == array.dtype
    assert data_file.read(data_file.write(SideData({}))) == SideData({})
    for content in (b"", b"[]\n", b"{}\nno arrays", b"{" * 5000):
        with pytest.raises(MessageError):
            data_file.read(data_file.memory_file(content))


def test_messages_are_unchanged_and_a_closed_queue_rejects() -> None:
    assert decode(encode(SideState(3, 2, (1, 4)))) == SideState(3, 2, [1, 4])  # type: ignore[arg-type]
    queue = WorkQueue("doubler", Doubler(), 4)
    assert queue.submit(Task(task(2))).result(10).arrays["y"].tolist() == [4]
    assert queue.stalled_s() == 0
    queue.close()
    with pytest.raises(Unavailable):
        queue.submit(Task(task()))


def test_a_cancelled_task_does_not_fail_the_other_tasks_of_its_batch() -> None:
    class Checker(Doubler):
        def run(self, tasks: Sequence[Task]) -> Sequence[SideData]:
            for each in tasks:
                stop_if_cancelled([each])
            return super().run(tasks)

    queue = WorkQueue("doubler", Checker(), 4)
    batch = [Queued(Task(task(n), cancelled=n == 1), "a", "") for n in (1, 2, 3)]
    queue._run(batch)
    assert isinstance(batch[0].future.exception(0), Unavailable)
    assert [each.future.result(0).arrays["y"].tolist() for each in batch[1:]] == [[4], [6]]
    queue.close()


async def test_a_cancelled_task_leaves_the_queue_at_once(model: Doubler) -> None:
    queue = WorkQueue("doubler", model, 4)
    running = queue.submit(Task(task(0, steps=100_000)))
    await until(lambda: model.steps > 0)
    waiting = [asyncio.wrap_future(queue.submit(Task(task(n)), "one")) for n in (1, 2)]
    waiting[0].cancel()
    await until(lambda: len(queue) == 1, 5)
    assert queue._shares.used == 1
    waiting[1].cancel()
    await until(lambda: len(queue) == 0, 5)
    assert queue._shares.used == 0
    queue.close()
    assert isinstance(running.exception(0), Unavailable)
    assert model.batches == [[0]]
