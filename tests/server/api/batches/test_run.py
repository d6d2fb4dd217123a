"""A running batch: its end, unavailable parts, and how it resumes."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from server.api.state import state_of
from server.context import BATCHES, client
from server.errors import Unavailable
from tests.server.api.batches.batch_files import BATCH, create, ended, gate, line, rows, upload
from tests.server.api.exchanges import check_error
from tests.server.application import Served
from tests.server.waiting import until


async def test_cancelled_requests_are_in_the_error_file(served: Served) -> None:
    go = gate(served)
    lines = [line(str(k), {"input": str(k)}) for k in range(9)]
    batch = (await create(served, await upload(served, *lines))).json()
    running = state_of(served.app).running
    await until(lambda: running.used == 4)
    cancelled = (await served.client.post(f"{BATCH}/{batch['id']}/cancel")).json()
    assert cancelled["status"] == "cancelling"
    await asyncio.sleep(0.6)  # the runner looks for cancellations every 0.5 s
    go.set()
    batch = await ended(served, batch["id"])
    assert batch["status"] == "cancelled"
    assert batch["cancelling_at"] == cancelled["cancelling_at"]
    assert len(await rows(served, batch["output_file_id"])) == 4
    errors = await rows(served, batch["error_file_id"])
    assert {each["error"]["code"] for each in errors.values()} == {"batch_cancelled"}
    assert len(errors) == 5
    response = await served.client.post(f"{BATCH}/{batch['id']}/cancel")
    check_error(response, 400, code="batch_finished")


async def test_an_expired_batch_keeps_its_results(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.batches.run.time", SimpleNamespace(time=lambda: 1e11))
    lines = [line(str(k), {"input": str(k)}) for k in range(3)]
    batch = (await create(served, await upload(served, *lines))).json()
    batch = await ended(served, batch["id"])
    assert batch["status"] == "expired"
    errors = await rows(served, batch["error_file_id"])
    assert {each["error"]["code"] for each in errors.values()} == {"batch_expired"}
    assert len(errors) == 3


async def test_a_full_server_is_asked_again(served: Served) -> None:
    fake, tries = served.components.components, 0
    decode = fake.decode

    async def full(*args: Any) -> Any:
        nonlocal tries
        assert client() == BATCHES  # all batches together count as one client
        tries += 1
        if tries == 1:
            raise Unavailable("full", code="encode_queue_full")
        return await decode(*args)

    fake.decode = full  # type: ignore[method-assign]
    file_id = await upload(served, line("a", {"input": "1"}))
    batch = await ended(served, (await create(served, file_id)).json()["id"])
    assert batch["request_counts"]["completed"] == 1
    assert tries == 2


async def test_a_part_that_stays_down_is_an_error_of_the_request(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.batches.run.MAX_WAIT_S", 0.001)
    tries = 0

    async def down(*_: Any) -> Any:
        nonlocal tries
        tries += 1
        raise Unavailable("down", code="encoders_unavailable")

    served.components.components.decode = down  # type: ignore[method-assign]
    file_id = await upload(served, line("a", {"input": "1"}))
    batch = await ended(served, (await create(served, file_id)).json()["id"])
    errors = await rows(served, batch["error_file_id"])
    assert errors["a"]["response"]["body"]["error"]["code"] == "encoders_unavailable"
    assert tries == 20


async def test_a_stopped_batch_resumes_without_repeating_finished_requests(served: Served) -> None:
    """`close` stops the runner as when a process ends, and `resume` continues as a new process
    does.
    """
    runner = state_of(served.app).batches
    decoded = served.components.components.decoded
    lines = [line(str(k), {"input": str(k)}) for k in range(40)]
    batch = (await create(served, await upload(served, *lines))).json()
    await until(lambda: len(decoded) >= 10)
    await runner.close()
    stopped_at = len(decoded)
    assert stopped_at < 40
    await runner.resume()
    batch = await ended(served, batch["id"])
    assert batch["request_counts"] == {"total": 40, "completed": 40, "failed": 0}
    assert len(await rows(served, batch["output_file_id"])) == 40
    assert len(decoded) <= 40 + 4  # only requests that were running at the stop were repeated
