"""Test /v1/files with OpenAI's client, and chats that use stored files or upload new files."""

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import openai
import pytest
from starlette.types import ASGIApp

from server.errors import BadRequest
from server.media.blob import Blob, DiskBlob
from server.media.embedded import Embedded
from tests.server.api.test_app import CHAT, HELLO, answer, check_error
from tests.server.application import Served, serve

FILES = "/v1/files"
PNG = "\x89PNG\r\n\x1a\n" + "x" * 100


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = serve("first", "second")
    served.handler.answer = answer()
    served.client.headers["authorization"] = "Bearer first"
    async with served.client:
        yield served


def client_of(served: Served, key: str = "first") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url="http://test/v1",
        api_key=key,
        # The parameter's type is httpx2's client, but the library also accepts clients of httpx.
        http_client=served.client,  # type: ignore[arg-type]
        max_retries=0,
    )


async def upload(served: Served, data: bytes, **form: Any) -> Any:
    return await served.client.post(
        FILES, files={"file": ("n.png", data)}, data={"purpose": "user_data", **form}
    )


def part(file_id: str, modality: str = "image") -> dict[str, Any]:
    return {"type": "file", "file": {"file_id": file_id}, "modality": modality}


def angle(served: Served, index: int = -1) -> float:
    x, y = np.frombuffer(served.handler.embeddings[index], "<f4")
    return float(np.degrees(np.arctan2(y, x)))


async def test_openais_client(served: Served) -> None:
    client = client_of(served)
    made = await client.files.create(
        file=("a.png", b"30"),
        purpose="vision",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (made.bytes, made.filename, made.purpose) == (2, "a.png", "vision")
    assert made.expires_at == made.created_at + 3600
    assert await client.files.retrieve(made.id) == made
    content = await client.files.content(made.id)
    assert content.read() == b"30"
    assert content.response.headers["x-content-type-options"] == "nosniff"
    other = await client.files.create(file=("b.png", b"60"), purpose="user_data")
    assert {file.id async for file in await client.files.list()} == {made.id, other.id}
    assert [f.id async for f in await client.files.list(purpose="vision")] == [made.id]
    paged = [file.id async for file in await client.files.list(limit=1, order="asc")]
    assert len(paged) == len(set(paged)) == 2
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        await client.files.retrieve(made.id)
    assert caught.value.code == "file_not_found"


async def test_another_key_sees_no_file(served: Served) -> None:
    made = (await upload(served, b"30")).json()
    headers = {"authorization": "Bearer second"}
    for method, path in [("GET", ""), ("GET", "/content"), ("DELETE", "")]:
        response = await served.client.request(
            method, f"{FILES}/{made['id']}{path}", headers=headers
        )
        check_error(response, 404, code="file_not_found")
    assert (await served.client.get(FILES, headers=headers)).json()["data"] == []
    body = {"messages": [{"role": "user", "content": [part(made["id"])]}]}
    response = await served.client.post(CHAT, json=body, headers=headers)
    check_error(response, 404, param="messages[0].content[0].file.file_id", code="file_not_found")


async def test_a_file_uploaded_once_is_decoded_once(served: Served) -> None:
    made = (await upload(served, b"30")).json()
    for _ in range(3):
        body = {"messages": [{"role": "user", "content": [part(made["id"])]}]}
        assert (await served.client.post(CHAT, json=body)).status_code == 200
        assert angle(served) == pytest.approx(30, abs=1e-3)
    await upload(served, b"30")
    assert served.components.components.decoded == [b"30"]


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


# The following tests send multipart forms.


def form(request: Any, *files: tuple[str, Any]) -> Any:
    return [("request", (None, json.dumps(request))), *files]


def image_at(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}, **more}


async def test_a_part_refers_to_a_file_of_the_form(served: Served) -> None:
    content = [image_at("attachment://a", weight=3), image_at("attachment://b")]
    request = {"messages": [{"role": "user", "content": content}], "imagebind": {"explain": True}}
    files = form(request, ("a", ("a.png", b"0")), ("b", ("b.png", b"90")))
    response = await served.client.post(CHAT, files=files)
    assert response.status_code == 200, response.text
    embedding = np.frombuffer(served.handler.embeddings[0], "<f4")
    np.testing.assert_allclose(embedding, [0.75, 0.25], atol=1e-5)
    shares = [part["share"] for part in response.json()["imagebind"]["mix"]]
    assert shares == [0.75, 0.25]


async def test_files_that_no_part_names_are_added(served: Served) -> None:
    png = b"\x89PNG\r\n\x1a\n"
    request = {"messages": HELLO, "imagebind": {"explain": True}}
    response = await served.client.post(
        CHAT, files=form(request, ("photo", ("x", png)), ("photo", ("y", png)))
    )
    # The fake encoders accept only files that contain a number, so a real picture is an error.
    check_error(response, 400, param="photo")
    assert served.components.components.decoded == [png]
    unknown = form(request, ("blob", ("x", b"what")))
    check_error(await served.client.post(CHAT, files=unknown), 415, param="blob")


@pytest.mark.parametrize(
    ("files", "status", "param"),
    [
        ([("a", ("a", b"1"))], 400, "request"),
        ([("request", (None, "{"))], 400, None),
        ([("request", (None, "[]"))], 400, None),
        (form({"messages": HELLO}, ("note", (None, "text"))), 400, "note"),
        (form({"messages": HELLO, "vllm_xargs": {}}), 400, "vllm_xargs"),
        (
            form({"messages": [{"role": "user", "content": [image_at("attachment://x")]}]}),
            400,
            "messages[0].content[0]",
        ),
        (
            form(
                {"messages": [{"role": "user", "content": [image_at("attachment://a")]}]},
                ("a", ("1", b"1")),
                ("a", ("2", b"2")),
            ),
            400,
            "messages[0].content[0]",
        ),
        (
            form(
                {"messages": [{"role": "user", "content": [image_at("attachment://a")]}]},
                ("a", ("1", b"")),
            ),
            400,
            "messages[0].content[0]",
        ),
    ],
)
async def test_a_bad_form_is_rejected(
    served: Served, files: Any, status: int, param: str | None
) -> None:
    check_error(await served.client.post(CHAT, files=files), status, param=param)
    assert not served.handler.seen
    assert not list(served.components.files.incoming.iterdir())


async def test_uploads_are_gone_when_the_request_is(served: Served) -> None:
    content = [image_at("attachment://a")]
    request = {"messages": [{"role": "user", "content": content}]}
    response = await served.client.post(CHAT, files=form(request, ("a", ("a.png", b"7"))))
    assert response.status_code == 200
    assert not list(served.components.files.incoming.iterdir())
    assert served.components.uploads.running.share.used == 0


async def test_a_form_is_for_chats_only(served: Served) -> None:
    for path in ("/v1/completions", "/v1/responses", "/tokenize"):
        check_error(await served.client.post(path, files=form({"prompt": "x"})), 415)


class SlowEmbedder:
    """A fake encoding service. It raises an error, or takes longer than the client waits."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails

    async def embed(self, modality: str, content: Blob, options: object) -> Embedded:  # noqa: ARG002
        if self.fails:
            raise BadRequest(f"a bad {modality} of {content.size} bytes")
        await asyncio.sleep(30)
        raise AssertionError("the server did not cancel the request of a client that disconnected")


@pytest.mark.parametrize("fails", [True, False], ids=["bad file", "client leaves"])
async def test_files_do_not_stay_until_the_garbage_collector_comes(
    served: Served, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Regression: after an error, a traceback referenced the upload, so that its disk space and its
    descriptor were free only after a garbage collection.
    """
    monkeypatch.setattr(served.components.conditioner, "_embedder", SlowEmbedder(fails))
    opened: list[weakref.ref[DiskBlob]] = []
    create = DiskBlob.__init__

    def noted(self: DiskBlob, descriptor: int, size: int, digest: bytes) -> None:
        create(self, descriptor, size, digest)
        opened.append(weakref.ref(self))

    monkeypatch.setattr(DiskBlob, "__init__", noted)
    gc.collect()
    gc.disable()
    try:
        await send_form_and_leave(served.app, json.dumps({"messages": HELLO}))
        await asyncio.sleep(0.01)
        assert [each() for each in opened] == [None]
    finally:
        gc.enable()


async def send_form_and_leave(app: ASGIApp, request: str) -> None:
    """Call the application over ASGI, like a client that sends a form and disconnects."""
    named = 'Content-Disposition: form-data; name="{}"{}'
    parts = [(named.format("request", ""), request), (named.format("a", '; filename="a.png"'), PNG)]
    body = "".join(f"--b\r\n{head}\r\n\r\n{text}\r\n" for head, text in parts) + "--b--\r\n"
    messages = [
        {"type": "http.request", "body": body.encode("latin-1"), "more_body": False},
        {"type": "http.disconnect"},
    ]
    headers = {"authorization": "Bearer first", "content-type": "multipart/form-data; boundary=b"}
    scope = {
        **{"type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode()},
        **{"query_string": b"", "http_version": "1.1", "scheme": "http"},
        **{"server": ("test", 80), "client": ("test", 1)},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> Any:
        if len(messages) == 1:
            await asyncio.sleep(0.05)
        return messages.pop(0)

    async def send(message: Any) -> None:
        pass

    async with asyncio.timeout(5):
        await app(scope, receive, send)


async def test_points_of_a_stored_cloud(served: Served) -> None:
    rows = b"0 0 0\n2.5 0 0\n0 2.5 0\n" + b"1.25 1.25 0\n" * 9
    header = b"ply\nformat ascii 1.0\nelement vertex 12\n"
    columns = b"property float x\nproperty float y\nproperty float z\nend_header\n"
    response = await upload(served, header + columns + rows)
    path = f"{FILES}/{response.json()['id']}/points"
    response = await served.client.get(path)
    assert response.status_code == 200, response.text
    points = np.frombuffer(response.content, "<f4").reshape(12, 3)
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1)
    other = await served.client.get(path, headers={"authorization": "Bearer second"})
    check_error(other, 404)
    picture = (await upload(served, PNG.encode("latin-1"))).json()["id"]
    message = check_error(await served.client.get(f"{FILES}/{picture}/points"), 400)
    assert "point cloud" in message
