"""Concurrent requests, and detectors that are down, slow or raise an error."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_ext.grounding.detector import Detection, Query
from model_ext.grounding.nouns import NounParser
from model_ext.grounding.side import GroundingModel
from model_ext.side import SideData, SideModel
from server.api.grounding.ground import Grounding
from server.side.client import SideClient
from tests.server.api.grounding.colors import ColorDetector, part, picture
from tests.server.api.grounding.grounded import (
    RED,
    STREAM,
    TEXT,
    answer,
    chat,
    corners,
    enable,
    events,
)
from tests.server.application import Served
from tests.server.side.served import application

pytest.importorskip("spacy")
pytestmark = pytest.mark.asyncio(loop_scope="package")


class Slow(ColorDetector):
    def detect(
        self,
        pictures: Sequence[np.ndarray],
        queries: Sequence[Sequence[Query]],
        threshold: float,
    ) -> list[list[Detection]]:
        time.sleep(0.5)
        return super().detect(pictures, queries, threshold)


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
