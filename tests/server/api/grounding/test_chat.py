"""Grounding in chat completions, streamed or not: boxes, flags, options and their errors."""

import json
from typing import Any

import pytest
from PIL import Image

from model_ext.imagebind.preprocess.limits import Limits
from server.media.attachments import AttachmentLimits
from tests.server.api.grounding.colors import error_of, part, picture
from tests.server.api.grounding.grounded import (
    BLUE,
    RED,
    STREAM,
    TEXT,
    answer,
    chat,
    corners,
    events,
)
from tests.server.application import Served

pytest.importorskip("spacy")
pytestmark = pytest.mark.asyncio(loop_scope="package")


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
