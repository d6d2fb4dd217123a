"""Test /v1/batches with OpenAI's client, on the application with fake encoders."""

import pytest

from server.api.middleware.auth import Keys, key_digest
from tests.server.api.batches.batch_files import (
    BATCH,
    EMBEDDINGS,
    create,
    ended,
    gate,
    line,
    rows,
    upload,
)
from tests.server.api.exchanges import check_error, client_of
from tests.server.application import Served


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


def test_a_removed_key_owns_no_requests() -> None:
    keys = Keys(["first"])
    assert keys.valid(key_digest("first").hex()) == key_digest("first")
    assert keys.valid(key_digest("second").hex()) is None
    assert keys.valid("") is None


async def test_a_key_may_have_few_unfinished_batches(served: Served) -> None:
    go = gate(served)
    file_id = await upload(served, line("a", {"input": "1"}))
    batches = [(await create(served, file_id)).json() for _ in range(3)]
    check_error(await create(served, file_id), 429, code="batch_limit_exceeded")
    go.set()
    for batch in batches:
        assert (await ended(served, batch["id"]))["status"] == "completed"
    assert (await create(served, file_id)).status_code == 200
