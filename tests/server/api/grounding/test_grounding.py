"""Grounding in chat completions, Responses and Messages. The decoding processes, the side service
and the parser are real. The engine is a fake, and the detector finds colors.
"""

import asyncio
import io
import json
import time
import weakref
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from model_ext.grounding.detector import Detection, Query
from model_ext.grounding.nouns import NounParser
from model_ext.grounding.side import GroundingModel
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.side import SideData, SideModel
from server.api.grounding.ground import Grounding
from server.api.middleware.rate_limit import new_usage
from server.context import current
from server.media.attachments import AttachmentLimits
from server.media.blob import MemoryBlob
from server.media.sources import Link
from server.side.client import SideClient
from server.side.detected_labels import DetectedLabels
from server.side.experts import Experts
from tests.server.api.grounding.colors import ColorDetector, error_of, part, picture
from tests.server.application import Served
from tests.server.side.served import application

pytest.importorskip("spacy")
pytestmark = pytest.mark.asyncio(loop_scope="package")

TEXT = "There is a red car. It stands beside a blue house, and 🚗 no green tree is there."
RED, BLUE = (10, 20, 30, 50), (40, 5, 70, 25)


class Slow(ColorDetector):
    def detect(
        self,
        pictures: Sequence[np.ndarray],
        queries: Sequence[Sequence[Query]],
        threshold: float,
    ) -> list[list[Detection]]:
        time.sleep(0.5)
        return super().detect(pictures, queries, threshold)


@pytest.fixture(scope="module")
def parser() -> NounParser:
    return NounParser.load()


@pytest.fixture
def detector_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "detector"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "owlv2"}')
    return folder


def enable(served: Served, folder: Path, **settings: Any) -> Served:
    # The parser's first answer takes long on a loaded machine.
    settings = {"detector": folder, "ground_timeout_s": 120, **settings}
    served.app.state.settings = served.app.state.settings.model_copy(update=settings)
    return served


@pytest_asyncio.fixture(loop_scope="package")
async def served(
    encoding: Path, parser: NounParser, detector_folder: Path
) -> AsyncIterator[Served]:
    model: SideModel = GroundingModel(ColorDetector(), parser, "cpu")
    async with application(encoding, {"detector": model}) as served:
        yield enable(served, detector_folder)


def answer(*texts: str | None) -> ChatCompletionResponse:
    choices = [
        ChatCompletionResponseChoice(index=n, message=ChatMessage(role="assistant", content=text))
        for n, text in enumerate(texts)
    ]
    return ChatCompletionResponse(model="tiny", choices=choices, usage=UsageInfo())


async def chat(served: Served, *parts: dict[str, Any], ground: Any = True, **fields: Any) -> Any:
    content = [*parts, {"type": "text", "text": "What is this?"}]
    options = {"ground": ground, **fields.pop("imagebind", {})}
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], **fields}
    return await served.client.post("/v1/chat/completions", json=body | {"imagebind": options})


def corners(box: dict[str, float]) -> list[float]:
    return [box["xmin"], box["ymin"], box["xmax"], box["ymax"]]


async def test_each_noun_of_each_choice_has_boxes_or_is_flagged(served: Served) -> None:
    served.handler.answer = answer(TEXT, "A red ball.", None)
    both = part(picture(("red", RED), ("blue", BLUE)))
    response = await chat(served, both, n=3)
    assert response.status_code == 200, response.text
    assert response.headers["x-bindserve-grounding"] == "on"
    first, second, third = (each["message"] for each in response.json()["choices"])
    assert first["content"] == TEXT
    assert [each["noun"] for each in first["grounding"]] == ["red car", "blue house"]
    for item, box in zip(first["grounding"], (RED, BLUE), strict=True):
        start, end = item["span"]
        assert TEXT[start:end] == item["noun"]
        assert item["found"] is True
        assert item["part"] == "messages[0].content[0]"
        assert [corners(each["box"]) for each in item["boxes"]] == [list(box)]
        assert item["boxes"][0]["score"] == pytest.approx(0.9)
    assert [each["noun"] for each in second["grounding"]] == ["red ball"]
    assert third["grounding"] == []


async def test_a_noun_that_no_picture_shows_has_no_boxes(served: Served) -> None:
    served.handler.answer = answer(TEXT)
    parts = [part(picture(("green", BLUE))), part(picture(("red", RED)))]
    (car, house) = (await chat(served, *parts)).json()["choices"][0]["message"]["grounding"]
    assert car["part"] == "messages[0].content[1]"
    assert house == {**house, "part": None, "boxes": [], "found": False}


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
async def test_boxes_are_in_pixels_of_the_upright_upload(served: Served, orientation: int) -> None:
    """The picture is so large that it is scaled down for the detector, and it is 20 times as wide
    as high.
    """
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    turns[8] = Image.Transpose.ROTATE_270
    upright = picture(("red", (1000, 40, 2600, 160)), size=(4000, 200))
    stored = upright if orientation == 1 else upright.transpose(turns[orientation])
    exif = Image.Exif()
    exif[274] = orientation
    served.handler.answer = answer("A red bar.")
    response = await chat(served, part(stored, exif=exif))
    (item,) = response.json()["choices"][0]["message"]["grounding"]
    assert corners(item["boxes"][0]["box"]) == pytest.approx([1000, 40, 2600, 160], abs=4)


def chunk(**fields: Any) -> str:
    document = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
    return f"data: {json.dumps(document | fields)}\n\n"


def delta(text: str, index: int = 0, finish: str | None = None) -> str:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return chunk(choices=[choice])


async def events(*items: str) -> AsyncIterator[str]:
    for item in items:
        yield item


STREAM = (
    *(delta("There is a "), delta("A red", 1), delta("red car", 0), delta(" ball.", 1)),
    *(delta(" here.", 0, "stop"), delta("", 1, "stop"), chunk(choices=[], usage={})),
    "data: [DONE]\n\n",
)


async def test_a_stream_has_the_grounding_in_its_last_chunk_with_choices(served: Served) -> None:
    served.handler.answer = events(*STREAM)
    red = part(picture(("red", RED)))
    response = await chat(served, red, stream=True, imagebind={"explain": True})
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    documents = [json.loads(line[6:]) for line in lines[:-1]]
    *text, last, usage = documents
    assert [each["choices"] for each in text] == [
        json.loads(each[6:])["choices"] for each in STREAM[:-2]
    ]
    assert usage["choices"] == []
    assert (last["id"], last["object"]) == ("x", "chat.completion.chunk")
    one, other = (choice["delta"]["grounding"] for choice in last["choices"])
    assert [(each["noun"], each["span"]) for each in one] == [("red car", [11, 18])]
    assert [(each["noun"], each["span"]) for each in other] == [("red ball", [2, 10])]
    # The choices are searched at the same time.
    assert sorted(last["imagebind"]["grounding"]["queries"]) == ["red ball", "red car"]


async def test_a_stream_without_grounding_is_unchanged(served: Served) -> None:
    red = part(picture(("red", RED)))
    served.handler.answer = events(*STREAM)
    assert (await chat(served, red, stream=True, ground=False)).text == "".join(STREAM)
    error = 'data: {"error": {"message": "x", "type": "y", "code": 500}}\n\n'
    served.handler.answer = events(STREAM[0], error, "data: [DONE]\n\n")
    text = (await chat(served, red, stream=True)).text
    assert "grounding" not in text
    assert text.endswith("data: [DONE]\n\n")


async def test_the_explanation_has_the_queries_and_the_threshold(served: Served) -> None:
    served.handler.answer = answer("A red car that is old.", "A red car that is old.")
    red = part(picture(("red", RED)))
    response = await chat(served, red, imagebind={"explain": True})
    assert response.json()["imagebind"]["grounding"] == {
        **{"nouns": "parser", "threshold": 0.5, "queries": ["red car that is old"]},
    }
    assert response.json()["imagebind"]["mix"]


@pytest.mark.parametrize(
    ("ground", "param"),
    [
        (3, "imagebind.ground"),
        ("yes", "imagebind.ground"),
        ({"nouns": "guess"}, "imagebind.ground.nouns"),
        ({"threshold": 2}, "imagebind.ground.threshold"),
        ({"threshold": "0.5"}, "imagebind.ground.threshold"),
        ({"surprise": 1}, "imagebind.ground.surprise"),
    ],
)
async def test_wrong_options_are_400(served: Served, ground: Any, param: str) -> None:
    response = await chat(served, part(picture()), ground=ground)
    assert error_of(response, 400)["param"] == param


async def test_requests_that_cannot_be_grounded_are_400(served: Served) -> None:
    served.handler.answer = answer("Yes.")
    assert error_of(await chat(served), 400)["param"] == "imagebind.ground"
    many = [part(picture(size=(8 + n, 8))) for n in range(5)]
    served.components.attachment_limits = AttachmentLimits(8, Limits(), 2)
    assert error_of(await chat(served, *many), 400)["param"] == "imagebind.ground"
    body = {"model": "tiny", "prompt": "x", "imagebind": {"ground": True}}
    response = await served.client.post("/v1/completions", json=body)
    assert error_of(response, 400)["param"] == "imagebind.ground"
    body = {"input": "x", "imagebind": {"ground": True}}
    response = await served.client.post("/v1/embeddings", json=body)
    assert error_of(response, 400)["param"] == "imagebind.ground"
    served.components.sides = {}
    error = error_of(await chat(served, part(picture())), 400)
    assert (error["param"], error["code"]) == ("imagebind.ground", "detector_not_enabled")
    assert "--detector" in error["message"]


async def test_an_answer_is_never_lost(
    encoding: Path, parser: NounParser, detector_folder: Path
) -> None:
    """When the detector is down or too slow, the answer has `grounding: null`."""
    red = part(picture(("red", RED)))
    slow: SideModel = GroundingModel(Slow(), parser, "cpu")
    for model, settings in ((None, {}), (slow, {"ground_timeout_s": 0.1})):
        async with application(encoding, {"detector": model}) as served:
            enable(served, detector_folder, **settings)
            served.handler.answer = answer(TEXT)
            response = await chat(served, red)
            assert response.status_code == 200
            message = response.json()["choices"][0]["message"]
            assert message["content"] == TEXT
            assert message["grounding"] is None
            assert response.headers["x-bindserve-grounding"] == "unavailable"
            served.handler.answer = events(*STREAM)
            text = (await chat(served, red, stream=True)).text
            assert '"grounding": null' in text
            assert text.endswith("data: [DONE]\n\n")


async def test_few_tasks_of_a_request_run_at_a_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request with many choices must not fill the detector's queue."""
    ask, running, most = SideClient.ask, 0, 0

    async def counted(self: SideClient, data: SideData) -> SideData:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await ask(self, data)
        finally:
            running -= 1

    monkeypatch.setattr(SideClient, "ask", counted)
    served.handler.answer = answer(*("A red car." for _ in range(20)))
    response = await chat(served, part(picture(("red", RED))))
    choices = response.json()["choices"]
    assert all(each["message"]["grounding"][0]["found"] for each in choices)
    assert most == 8


class Downloads:
    """Returns the same picture for every link, and records the links."""

    def __init__(self) -> None:
        file = io.BytesIO()
        picture(("red", RED)).save(file, "PNG")
        self.data, self.urls = file.getvalue(), list[str]()
        self.blobs: list[weakref.ref[MemoryBlob]] = []

    async def fetch(self, link: Link) -> MemoryBlob:
        self.urls.append(link.url)
        blob = Held(self.data)
        self.blobs.append(weakref.ref(blob))
        return blob


class Held(MemoryBlob):
    """A blob to which weak references are possible."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("experts", [None, ["objects"]])
async def test_a_link_is_downloaded_once(served: Served, experts: list[str] | None) -> None:
    downloads = Downloads()
    components = served.components
    components.conditioner._fetcher = downloads
    reader = DetectedLabels(("red car",), None, None)
    components.experts = Experts(components.sides, components.encoders, objects=reader)
    enable(served, served.app.state.settings.detector, allow_media_urls=True)
    link = {"type": "image_url", "image_url": {"url": "https://example.org/red.png"}}
    for stream in (False, True):
        downloads.urls.clear()
        downloads.blobs.clear()
        served.handler.answer = events(*STREAM) if stream else answer(TEXT)
        response = await chat(served, link, stream=stream, imagebind={"experts": experts})
        assert '"found":true' in response.text.replace(" ", ""), response.text
        assert downloads.urls == ["https://example.org/red.png"]
        assert [blob() for blob in downloads.blobs] == [None]  # the file is closed


async def test_no_grounding_reaches_another_request(served: Served) -> None:
    # One client may use half of the 64 places in the detector's queue.
    places = asyncio.Semaphore(20)

    async def one(number: int) -> None:
        color = ("red", "green", "blue")[number % 3]
        box = (number % 20, number % 30, number % 20 + 20, number % 30 + 10)
        async with places:
            response = await chat(served, part(picture((color, box))), ground={"threshold": 0.1})
        own, *others = response.json()["choices"][0]["message"]["grounding"]
        by_color = {each["noun"].split()[0]: each for each in (own, *others)}
        assert corners(by_color[color]["boxes"][0]["box"]) == list(box)
        assert [name for name, each in by_color.items() if each["found"]] == [color]

    served.handler.answer = answer("A red car, a green tree, and a blue house.")
    await asyncio.gather(*map(one, range(60)))


class TwoAnswers:
    """A chat handler that gets two requests: first the client's, then the one for the answer's
    nouns.
    """

    def __init__(self, nouns: str) -> None:
        self.answers: list[Any] = [answer(TEXT), answer(nouns)]
        self.seen: list[Any] = []
        self.embeddings: list[bytes] = []

    async def create_chat_completion(self, request: Any, raw_request: Any) -> Any:
        assert (raw_request is None) == bool(self.seen)
        self.seen.append(request)
        self.embeddings.append(current().embedding)
        result = self.answers[len(self.seen) - 1]
        if isinstance(result, Exception):
            raise result
        return result


async def test_the_model_itself_can_list_the_nouns(served: Served) -> None:
    """The second request has a JSON schema and no attachment."""
    nouns = json.dumps({"nouns": ["Red Car", "unicorn", "blue house", "red car"]})
    handler = served.app.state.openai_serving_chat = TwoAnswers(nouns)
    red = part(picture(("red", RED)))
    response = await chat(served, red, ground={"nouns": "model"})
    grounding = response.json()["choices"][0]["message"]["grounding"]
    assert [(each["noun"], each["found"]) for each in grounding] == [
        ("red car", True),
        ("blue house", False),
    ]
    assert [TEXT[slice(*each["span"])] for each in grounding] == ["red car", "blue house"]
    first, second = handler.seen
    assert second.response_format.json_schema.json_schema["required"] == ["nouns"]
    assert TEXT in second.messages[0]["content"]
    assert handler.embeddings[1] == served.components.text_only != handler.embeddings[0]
    assert first.response_format is None


@pytest.mark.parametrize("nouns", ["", "{", "[]", '{"nouns": "dog"}', '{"nouns": [3]}'])
async def test_a_list_that_is_cut_off_loses_no_answer(served: Served, nouns: str) -> None:
    served.app.state.openai_serving_chat = TwoAnswers(nouns)
    red = part(picture(("red", RED)))
    response = await chat(served, red, ground={"nouns": "model"})
    message = response.json()["choices"][0]["message"]
    assert (message["content"], message["grounding"]) == (TEXT, None)


async def test_an_error_of_the_second_request_loses_no_answer(served: Served) -> None:
    """vLLM raises an error of its own, for example for a prompt that is too long."""
    handler = served.app.state.openai_serving_chat = TwoAnswers("")
    handler.answers[1] = ValueError("too long")
    response = await chat(served, part(picture(("red", RED))), ground={"nouns": "model"})
    assert response.status_code == 200, response.text
    message = response.json()["choices"][0]["message"]
    assert (message["content"], message["grounding"]) == (TEXT, None)


async def test_an_unexpected_error_loses_no_answer_and_stops_the_other_texts(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []

    async def ground(_self: Grounding, text: str, _pictures: Any) -> Any:
        if text == "a":
            raise ValueError(text)
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(text)

    monkeypatch.setattr(Grounding, "_ground", ground)
    served.handler.answer = answer("b", "a")
    response = await chat(served, part(picture(("red", RED))), n=2)
    choices = response.json()["choices"]
    assert [each["message"]["grounding"] for each in choices] == [None, None]
    assert stopped == ["b"]


async def test_the_second_request_needs_a_place_of_the_client(
    served: Served, detector_folder: Path
) -> None:
    enable(served, detector_folder, key_requests_per_minute=1)
    served.app.state.key_usage = usage = new_usage(1)
    assert usage[""].wait_s(1) == 0  # as if the middleware had counted the first request
    handler = served.app.state.openai_serving_chat = TwoAnswers('{"nouns": []}')
    response = await chat(served, part(picture()), ground={"nouns": "model"})
    assert response.json()["choices"][0]["message"]["grounding"] is None
    assert len(handler.seen) == 1


RESPONSE = {
    "object": "response",
    "output": [
        {"type": "reasoning", "content": None},
        {"type": "message", "content": [{"type": "output_text", "text": "A red car."}]},
    ],
}


async def test_responses_and_messages_have_the_grounding(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi.responses import JSONResponse, StreamingResponse

    from server.api.routes.generation import responses_and_messages as routes

    completed = {"type": "response.completed", "response": RESPONSE}
    message = {"type": "message", "content": [{"type": "text", "text": "A red car."}]}
    block = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "A red car."}}
    cases = (
        ("create_responses", "/v1/responses", RESPONSE, ("response.completed", completed)),
        ("create_messages", "/v1/messages", message, ("message_stop", {"type": "message_stop"})),
    )
    for name, path, document, (event, last) in cases:
        red = part(picture(("red", RED)))
        fields = {"imagebind": {"ground": True}, "model": "tiny", "max_tokens": 9}
        turn = [{"role": "user", "content": [red, {"type": "text", "text": "What?"}]}]
        body = {**fields, "input": turn, "messages": turn}
        for stream in (False, True):

            async def handler(
                *_: Any,
                stream: bool = stream,
                document: Any = document,
                event: str = event,
                last: Any = last,
            ) -> Any:
                if not stream:
                    return JSONResponse(document)
                start = f"event: content_block_delta\ndata: {json.dumps(block)}\n\n"
                return StreamingResponse(
                    events(start, f"event: {event}\ndata: {json.dumps(last)}\n\n"),
                    media_type="text/event-stream",
                )

            monkeypatch.setattr(routes, name, handler)
            response = await served.client.post(path, json=body)
            assert response.status_code == 200, response.text
            assert response.headers["x-bindserve-cache"] == "off"
            result = (
                json.loads(response.text.strip().rsplit("data: ", 1)[1])
                if stream
                else response.json()
            )
            result = result.get("response", result)
            owner = result["output"][1] if "output" in result else result
            (item,) = owner["grounding"]
            assert (item["noun"], item["span"], item["found"]) == ("red car", [2, 9], True)
