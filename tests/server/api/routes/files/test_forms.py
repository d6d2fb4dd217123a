"""Chats as multipart forms, whose files are uploaded with the request."""

import asyncio
import gc
import json
import weakref
from typing import Any

import numpy as np
import pytest

from server.errors import BadRequest
from server.media.blob import Blob, DiskBlob
from server.media.embedded import Embedded
from tests.server.api.exchanges import CHAT, HELLO, check_error, send_and_leave
from tests.server.api.routes.files.stored import PNG
from tests.server.application import Served


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


def chat_with_picture() -> bytes:
    """Return a multipart form with the boundary "b"."""
    named = 'Content-Disposition: form-data; name="{}"{}'
    request = json.dumps({"messages": HELLO})
    parts = [(named.format("request", ""), request), (named.format("a", '; filename="a.png"'), PNG)]
    body = "".join(f"--b\r\n{head}\r\n\r\n{text}\r\n" for head, text in parts) + "--b--\r\n"
    return body.encode("latin-1")


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
        await send_and_leave(
            served.app,
            chat_with_picture(),
            authorization="Bearer first",
            content_type="multipart/form-data; boundary=b",
        )
        await asyncio.sleep(0.01)
        assert [each() for each in opened] == [None]
    finally:
        gc.enable()
