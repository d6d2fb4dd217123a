"""/v1/batches with OpenAI's client, on the application with fake encoders."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.api.batches.in_process import BatchAnswer
from server.api.batches.lines import BatchLine
from server.api.batches.places import BatchPlaces
from server.api.batches.results import BatchResults, ResultFile, read_results
from server.api.batches.runner import running
from server.api.middleware.auth import Keys, key_digest
from server.api.state import state_of
from server.context import BATCHES, client, key_salt
from server.errors import Unavailable
from server.fairness import FairShare
from tests.server.api.exchanges import answer, check_error, client_of
from tests.server.application import Served, serve
from tests.server.waiting import until

BATCH = "/v1/batches"
EMBEDDINGS = "/v1/embeddings"
DONE = ("completed", "failed", "expired", "cancelled")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = serve("first", "second", owner_batches=3, batch_requests=4, max_batch_line_bytes=500)
    served.client.headers["authorization"] = "Bearer first"
    served.handler.answer = answer()
    async with served.client, running(state_of(served.app).batches):
        yield served


def line(custom_id: Any, body: Any, url: str = EMBEDDINGS, **changes: Any) -> str:
    return json.dumps(
        {"custom_id": custom_id, "method": "POST", "url": url, "body": body, **changes}
    )


async def upload(served: Served, *lines: str, key: str = "first", purpose: Any = "batch") -> str:
    content = io.BytesIO("\n".join(lines).encode())
    file = await client_of(served, key).files.create(file=("in.jsonl", content), purpose=purpose)
    return file.id


async def create(served: Served, file_id: str, endpoint: str = EMBEDDINGS, **more: Any) -> Any:
    body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h", **more}
    return await served.client.post(BATCH, json=body)


async def ended(served: Served, batch_id: str) -> Any:
    async with asyncio.timeout(20):
        while (await served.client.get(f"{BATCH}/{batch_id}")).json()["status"] not in DONE:
            await asyncio.sleep(0.01)
    return (await served.client.get(f"{BATCH}/{batch_id}")).json()


async def rows(served: Served, file_id: str | None) -> dict[str, Any]:
    """Return the lines of a result file by their custom_id. Fails if a custom_id occurs twice."""
    text = (await served.client.get(f"/v1/files/{file_id}/content")).text
    parsed = [json.loads(each) for each in text.splitlines()]
    assert len({each["custom_id"] for each in parsed}) == len(parsed)
    return {each["custom_id"]: each for each in parsed}


def gate(served: Served) -> asyncio.Event:
    """Make the fake encoders wait until the returned event is set."""
    go = served.components.components.go
    go.clear()
    return go


async def test_openais_client(served: Served) -> None:
    """The batch has good and bad requests. Each custom_id has one line, either in the output file
    or in the error file.
    """
    api = client_of(served)
    good = [line(f"good {k}", {"model": "tiny", "input": str(k)}) for k in range(30)]
    bad = [
        line("no input", {"model": "tiny"}),
        line("other model", {"model": "huge", "input": "1"}),
        line("no object", 7),
        line("stream", {"input": "1", "stream": True}),
    ]
    file_id = await upload(served, *good, "", *bad)
    batch = await api.batches.create(
        input_file_id=file_id, endpoint=EMBEDDINGS, completion_window="24h", metadata={"a": "b"}
    )
    assert batch.status == "validating"
    await api.files.delete(file_id)  # the batch keeps its own copy of the input
    await ended(served, batch.id)
    batch = await api.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert batch.metadata == {"a": "b"}
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 34, "completed": 30, "failed": 4}
    assert [each.id async for each in api.batches.list()] == [batch.id]
    output = await rows(served, batch.output_file_id)
    errors = await rows(served, batch.error_file_id)
    assert output.keys() == {f"good {k}" for k in range(30)}
    row = output["good 7"]
    assert row["error"] is None
    assert row["response"]["status_code"] == 200
    assert row["response"]["request_id"]
    single = await served.client.post(EMBEDDINGS, json={"model": "tiny", "input": "7"})
    assert row["response"]["body"] == single.json()
    statuses = {name: each["response"]["status_code"] for name, each in errors.items()}
    assert statuses == {"no input": 400, "other model": 404, "no object": 400, "stream": 400}
    assert errors["other model"]["response"]["body"]["error"]["code"] == "model_not_found"
    purposes = {each.purpose for each in (await api.files.list()).data}
    assert purposes == {"batch_output"}


async def test_chats(served: Served) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    url = "/v1/chat/completions"
    file_id = await upload(served, line("a", {"model": "tiny", "messages": messages}, url))
    batch = await ended(served, (await create(served, file_id, url)).json()["id"])
    row = (await rows(served, batch["output_file_id"]))["a"]
    assert row["response"]["body"]["choices"][0]["message"]["content"] == "Hi"
    # The server runs the request under the key that created the batch.
    own = await served.client.post(url, json={"model": "tiny", "messages": messages})
    assert own.status_code == 200
    assert served.handler.salts[0] == served.handler.salts[1] != ""


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        (["{"], "invalid_json_line", 1),
        (["[]"], "invalid_json_line", 1),
        ([line("a", {}), line("a", {})], "duplicate_custom_id", 2),
        ([line(7, {})], "invalid_custom_id", 1),
        ([line("a", {}, method="GET")], "invalid_method", 1),
        ([line("a", {}, "/v1/completions")], "mismatched_url", 1),
        (["", line("a", "x" * 500)], "line_too_large", 2),
        (["", " "], "empty_file", None),
        (["[" * 400], "invalid_json_line", 1),
    ],
    ids=str,
)
async def test_a_malformed_file_fails_the_batch_before_its_first_request(
    served: Served, lines: list[str], code: str, number: int | None
) -> None:
    batch = (await create(served, await upload(served, *lines, ""))).json()
    batch = await ended(served, batch["id"])
    assert batch["status"] == "failed"
    fault = batch["errors"]["data"][0]
    assert (fault["code"], fault["line"]) == (code, number)
    assert batch["output_file_id"] is None
    assert not served.components.components.decoded


async def test_what_a_batch_may_be(served: Served) -> None:
    good = await upload(served, line("a", {"input": "1"}))
    check_error(await create(served, good, "/v1/score"), 400, param="endpoint")
    for window in ("25h", "0h", "1d", ""):
        response = await create(served, good, completion_window=window)
        check_error(response, 400, param="completion_window")
    check_error(await create(served, "file-1"), 404, param="input_file_id")
    image = await upload(served, "x", purpose="vision")
    check_error(await create(served, image), 400, param="input_file_id")
    response = await create(served, good, metadata={"a": 7})
    check_error(response, 400)
    expiry = {"anchor": "created_at", "seconds": 0}
    response = await create(served, good, output_expires_after=expiry)
    check_error(response, 400, param="output_expires_after.seconds")
    check_error(await served.client.get(f"{BATCH}/batch_x"), 404, code="batch_not_found")


async def test_keys_have_separate_batches(served: Served) -> None:
    batch = (await create(served, await upload(served, line("a", {"input": "1"})))).json()
    await ended(served, batch["id"])
    served.client.headers["authorization"] = "Bearer second"
    check_error(await served.client.get(f"{BATCH}/{batch['id']}"), 404)
    check_error(await served.client.post(f"{BATCH}/{batch['id']}/cancel"), 404)
    assert (await served.client.get(BATCH)).json()["data"] == []
    check_error(await create(served, batch["input_file_id"]), 404, param="input_file_id")


async def test_a_key_may_have_few_unfinished_batches(served: Served) -> None:
    go = gate(served)
    file_id = await upload(served, line("a", {"input": "1"}))
    batches = [(await create(served, file_id)).json() for _ in range(3)]
    check_error(await create(served, file_id), 429, code="batch_limit_exceeded")
    go.set()
    for batch in batches:
        assert (await ended(served, batch["id"]))["status"] == "completed"
    assert (await create(served, file_id)).status_code == 200


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


async def test_a_request_that_waits_has_no_place(served: Served) -> None:
    """The batch of the other key ends while all requests of the first batch wait."""
    fake, go = served.components.components, False
    decode = fake.decode

    async def full(modality: Any, *args: Any) -> Any:
        if key_salt() == key_digest("first").hex() and not go:
            raise Unavailable("full", code="encode_queue_full")
        return await decode(modality, *args)

    fake.decode = full  # type: ignore[method-assign]
    file_id = await upload(served, *(line(str(k), {"input": str(k)}) for k in range(6)))
    first = (await create(served, file_id)).json()
    served.client.headers["authorization"] = "Bearer second"
    file_id = await upload(served, line("a", {"input": "90"}), key="second")
    other = await ended(served, (await create(served, file_id)).json()["id"])
    assert other["request_counts"]["completed"] == 1
    served.client.headers["authorization"] = "Bearer first"
    counts = (await served.client.get(f"{BATCH}/{first['id']}")).json()["request_counts"]
    assert counts == {"total": 6, "completed": 0, "failed": 0}
    go = True
    assert (await ended(served, first["id"]))["request_counts"]["completed"] == 6
    assert state_of(served.app).batches._tools.places._taken == 0


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


def test_a_removed_key_owns_no_requests() -> None:
    keys = Keys(["first"])
    assert keys.valid(key_digest("first").hex()) == key_digest("first")
    assert keys.valid(key_digest("second").hex()) is None
    assert keys.valid("") is None


def test_results_beyond_the_limit_become_errors(tmp_path: Path) -> None:
    files = [ResultFile.open(tmp_path / name) for name in ("output", "errors")]
    results = BatchResults("0" * 32, *files, max_bytes=300)
    lines = [BatchLine(number, str(number), 0, 1) for number in (1, 2)]
    for number in (1, 2, 2):
        results.add(lines[number - 1], BatchAnswer(200, body=b'{\n"a": 1}'))
    results.close()
    # A result that arrives after `close` has no effect.
    results.add(BatchLine(3, "3", 0, 1), BatchAnswer(200))
    (output,) = (tmp_path / "output").read_text().splitlines()
    assert json.loads(output)["response"]["body"] == {"a": 1}
    (error,) = (tmp_path / "errors").read_text().splitlines()
    assert json.loads(error)["error"]["code"] == "output_too_large"
    assert read_results(tmp_path / "output")[0] == {1}


def test_an_incomplete_last_line_is_cut_off(tmp_path: Path) -> None:
    """The file ends with the part of a line that a killed server wrote."""
    path = tmp_path / "results"
    whole = b'{"id": "batch_req_' + b"0" * 32 + b'_7", "custom_id": "a"}\n'
    path.write_bytes(whole + whole[:40])
    file = ResultFile.open(path)
    assert file.numbers == {7}
    file.append(8, whole.replace(b"_7", b"_8"))
    file.close()
    assert path.read_bytes() == whole + whole.replace(b"_7", b"_8")


async def test_other_requests_take_places_away_except_the_last() -> None:
    running = FairShare(100)
    places = BatchPlaces(3, running)
    for _ in range(2):
        await places.take()
        running.add(BATCHES)
    running.add("interactive", 5)
    third = asyncio.ensure_future(places.take())
    await asyncio.sleep(0.1)
    assert not third.done()
    running.give_back("interactive", 5)
    await third
    for _ in range(3):
        places.give_back()
    running.add("interactive", 50)
    await places.take()  # batches always get one place
