"""Uploads that are rejected, and the limits of uploads."""

import json
from typing import Any

import pytest

from tests.server.api.exchanges import CHAT, HELLO, answer, check_error
from tests.server.api.routes.files.stored import FILES, upload
from tests.server.application import Served, serve


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"purpose": "fun"}, "purpose"),
        ({"expires_after[seconds]": "5"}, "expires_after[anchor]"),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "0"},
            "expires_after[seconds]",
        ),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 30},
            "expires_after[seconds]",
        ),
    ],
)
async def test_a_bad_upload_names_its_field(served: Served, form: Any, param: str) -> None:
    check_error(await upload(served, b"30", **form), 400, param=param)
    assert (await served.client.get(FILES)).json()["data"] == []


async def test_expires_after_as_one_field_of_json(served: Served) -> None:
    text = json.dumps({"anchor": "created_at", "seconds": 3600})
    made = (await upload(served, b"30", expires_after=text)).json()
    assert made["expires_at"] == made["created_at"] + 3600


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("", "expires_after"),
        ("[]", "expires_after"),
        ("[" * 5000, "expires_after"),
        ('{"seconds": 5}', "expires_after.anchor"),
        ('{"anchor": "created_at"}', "expires_after.seconds"),
        ('{"anchor": "created_at", "seconds": true}', "expires_after.seconds"),
        ('{"anchor": "created_at", "seconds": 0}', "expires_after.seconds"),
        ('{"anchor": "created_at", "seconds": 1e3}', "expires_after.seconds"),
    ],
)
async def test_bad_json_of_expires_after(served: Served, text: str, param: str) -> None:
    check_error(await upload(served, b"30", expires_after=text), 400, param=param)


async def test_what_is_no_upload(served: Served) -> None:
    check_error(await upload(served, b""), 400, param="file")
    check_error(await served.client.post(FILES, json={}), 415)
    two = [("file", ("a", b"1")), ("file", ("b", b"2"))]
    form = {"purpose": "vision"}
    check_error(await served.client.post(FILES, files=two, data=form), 400, param="file")
    other = {"other": ("a", b"1")}
    check_error(await served.client.post(FILES, files=other, data=form), 400, param="file")
    for query in ("limit=0", "limit=x", "order=up", "limit=99999999"):
        response = await served.client.get(f"{FILES}?{query}")
        check_error(response, 400, param=query.partition("=")[0])
    check_error(await served.client.get(f"{FILES}?after=file-x"), 404)
    check_error(await served.client.get(f"{FILES}/../../etc/passwd"), 404)


async def test_an_upload_beyond_the_quota_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.api.multipart.WAIT_S", 0.01)
    served = serve(owner_files=1, max_uploads=1)
    assert (await upload(served, b"1")).status_code == 200
    check_error(await upload(served, b"1"), 400, code="quota_exceeded")
    served.components.uploads.running.share.add("other")
    check_error(await upload(served, b"1"), 503, code="too_many_uploads")


async def test_uploads_have_their_own_bound() -> None:
    served = serve(max_body_bytes=1000, max_upload_bytes=5000)
    served.handler.answer = answer()
    files = {"request": (None, json.dumps({"messages": HELLO}))}
    assert (await upload(served, bytes(2000))).status_code == 200
    check_error(await upload(served, bytes(6000)), 413, code="too_large")
    padded = json.dumps({"messages": HELLO, "x": "x" * 1100})
    check_error(
        await served.client.post(CHAT, files={"request": (None, padded)}), 413, param="request"
    )
    assert (await served.client.post(CHAT, files=files)).status_code == 200
    response = await served.client.post("/v1/responses", files={"f": ("f", bytes(2000))})
    # /v1/responses keeps bodies in memory, so the limit of a body is smaller than for uploads.
    check_error(response, 413)
