"""Large documents are parsed and checked in a thread, one at a time; clients take turns."""

import asyncio
import json
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.api import body
from server.api.body import is_large, read_document
from server.context import RequestContext, entered
from server.errors import BadRequest
from server.fairness.turns import Turns

SMALL = {"stop": ["a"] * 9, "text": "x" * 100_000}
MANY = {"stop": {"a": list(range(600))}}


@pytest.mark.parametrize(
    ("document", "large"), [(SMALL, False), (MANY, True), ({"text": "x" * 300_000}, True)]
)
def test_documents_of_many_bytes_or_values_are_large(document: Any, large: bool) -> None:
    assert is_large(json.dumps(document).encode()) == large


async def test_large_documents_are_read_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    order, running, threads = "", 0, set()

    def checked_json(data: bytes, settings: object) -> Any:  # noqa: ARG001
        nonlocal order, running
        document = json.loads(data)
        running += 1
        threads.add(threading.get_ident())
        assert running == 1
        time.sleep(0.005)
        order += document["client"]
        running -= 1
        if document["client"] == "b":
            raise BadRequest("not valid")
        return document

    monkeypatch.setattr(body, "checked_json", checked_json)
    state = SimpleNamespace(reading=Turns(), settings=None)
    request = cast(Any, SimpleNamespace(app=SimpleNamespace(state=state)))

    async def read(client: str, document: Any) -> None:
        with entered(RequestContext(b"", address=client)):
            await read_document(json.dumps({"client": client, **document}).encode(), request)

    results = await asyncio.gather(
        *(read(client, MANY) for client in "aaaab"), return_exceptions=True
    )
    assert order == "aabaa"
    assert [type(each) for each in results] == [type(None)] * 4 + [BadRequest]
    assert threading.get_ident() not in threads
    threads.clear()
    await read("c", SMALL)
    assert threads == {threading.get_ident()}
