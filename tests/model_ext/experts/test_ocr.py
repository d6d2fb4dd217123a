"""The text expert, with RapidOCR's real models and rendered texts."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model_ext.experts.ocr import Ocr, in_reading_order, load
from model_ext.experts.texts import written
from model_ext.side import Cancelled, SideData, Task, TaskError

LINES = ("INVOICE 4711", "Total: 38.50 EUR", "due on 12 March")


@pytest.fixture(scope="module")
def ocr() -> Ocr:
    return load(device="cpu", threads=1)


def picture(lines: tuple[str, ...]) -> NDArray[np.uint8]:
    image = Image.new("RGB", (480, 200), "white")
    font = ImageFont.load_default(28)
    for row, line in enumerate(lines):
        ImageDraw.Draw(image).text((20, 20 + 55 * row), line, "black", font)
    return np.array(image)


def read(ocr: Ocr, pictures: NDArray[np.uint8]) -> str:
    (result,) = ocr.run([Task(SideData({}, {"pictures": pictures}))])
    return written(result.document)


def test_rendered_lines_are_read_from_top_to_bottom(ocr: Ocr) -> None:
    assert read(ocr, picture(LINES)[None]).split("\n") == list(LINES)


def test_a_line_that_stays_in_a_video_is_read_once(ocr: Ocr) -> None:
    frames = np.stack([picture(LINES[:1]), picture(LINES[:2]), picture(LINES[:2])])
    assert read(ocr, frames) == "\n".join(LINES[:2])


def test_no_picture_and_no_text_are_empty(ocr: Ocr) -> None:
    assert read(ocr, np.full((1, 60, 60, 3), 200, np.uint8)) == ""
    assert read(ocr, np.zeros(0, np.uint8)) == ""


def test_color_channels_are_in_the_order_that_the_reader_expects() -> None:
    """RapidOCR expects the order blue, green, red. Black text looks the same in any order, so this
    test checks the array that RapidOCR gets.
    """
    calls: list[NDArray[np.uint8]] = []

    class Result:
        boxes, txts = None, None

    def record(image: NDArray[np.uint8]) -> Result:
        calls.append(image)
        return Result()

    red = np.zeros((8, 8, 3), np.uint8)
    red[:, :, 0] = 255
    assert Ocr(record, "cpu", 0).lines(red) == []  # type: ignore[arg-type]
    assert calls[0][0, 0].tolist() == [0, 0, 255]


def test_boxes_beside_each_other_are_one_line() -> None:
    def box(x: float, y: float) -> list[list[float]]:
        return [[x, y], [x + 40, y], [x + 40, y + 20], [x, y + 20]]

    boxes = np.array([box(200, 2), box(0, 0), box(0, 30), box(100, 34)], np.float32)
    assert in_reading_order(boxes, ("b", "a", "c", "d")) == ["a b", "c d"]


def test_a_cancelled_task_stops_and_options_are_rejected(ocr: Ocr) -> None:
    task = Task(SideData({}, {"pictures": picture(LINES)[None]}), cancelled=True)
    with pytest.raises(Cancelled):
        ocr.run([task])
    with pytest.raises(TaskError):
        ocr.kind({"language": "en"})
