"""The side model that draws pictures: its settings, its errors and its pictures."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model_ext.decoders.drawer import Drawer, load
from model_ext.decoders.flow import Flow
from model_ext.decoders.flow_decoder import FlowDecoder
from model_ext.decoders.flow_file import save_flow
from model_ext.decoders.picture_decoder import PictureSettings
from model_ext.errors import ConfigError
from model_ext.side import Cancelled, SideData, Task, TaskError


@pytest.fixture
def drawer(flow: Flow) -> Drawer:
    return Drawer(FlowDecoder(flow), max_batch=4)


def task(seed: int = 0, dim: int = 6, **document: object) -> Task:
    embedding = np.random.default_rng(seed).normal(size=dim).astype(np.float32)
    return Task(SideData({"seed": seed, **document}, {"embedding": embedding}))


def pixels(result: SideData) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    picture = Image.open(io.BytesIO(result.arrays["png"].tobytes()))
    assert (picture.format, picture.mode) == ("PNG", "RGB")
    assert picture.size == (result.document["width"], result.document["height"])
    return np.asarray(picture)


def test_missing_settings_are_the_decoders(drawer: Drawer) -> None:
    assert drawer.kind({"steps": None}) == PictureSettings(256, 256, 4, 2.0, 0)
    settings = {"width": 64, "height": 32, "steps": 2, "guidance": 1.0, "noise_level": 0}
    assert drawer.kind(settings) == PictureSettings(64, 32, 2, 1.0, 0)
    with pytest.raises(TaskError, match="noise_level must be 0"):
        drawer.kind({"noise_level": 3})


def test_a_batch_gives_the_pictures_of_solo_runs(drawer: Drawer) -> None:
    sizes = {"width": 48, "height": 32}
    together = drawer.run([task(seed, **sizes) for seed in range(3)])
    for seed, result in enumerate(together):
        (alone,) = drawer.run([task(seed, **sizes)])
        difference = pixels(result).astype(int) - pixels(alone)
        assert np.abs(difference).max() <= 1
        assert pixels(result).shape == (32, 48, 3)
    assert (pixels(together[0]) != pixels(together[1])).any()
    assert (pixels(together[0])[:, :8] == 255).all()  # white, left of the square picture


def test_an_embedding_of_another_length_is_rejected(drawer: Drawer) -> None:
    with pytest.raises(TaskError, match="embeddings of 6 numbers"):
        drawer.run([task(dim=5)])


def test_a_cancelled_batch_stops_between_two_steps(drawer: Drawer) -> None:
    left = task()
    left.cancelled = True
    with pytest.raises(Cancelled):
        drawer.run([left])
    assert len(drawer.run([left, task(1)])) == 2  # the second task's client still waits


@pytest.mark.parametrize(
    ("max_pixels", "size"),
    [(1024 * 1024, (1024, 1024)), (1000 * 999, (992, 992)), (100, (256, 256))],
)
def test_gpu_memory_is_reserved_for_the_largest_batch_at_the_start(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, max_pixels: int, size: tuple[int, int]
) -> None:
    """The decoder says that it is on a GPU, but draws on the CPU."""
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _device: 7)
    decoder = FlowDecoder(flow)
    decoder.device = "cuda"
    drawn: list[tuple[Any, ...]] = []
    draw = decoder.draw

    def record(*arguments: Any) -> Any:
        pictures = draw(*arguments)
        drawn.append((pictures.shape, arguments[3].steps, arguments[3].guidance))
        return pictures

    monkeypatch.setattr(decoder, "draw", record)
    assert Drawer(decoder, 3, max_pixels=max_pixels).gpu_bytes == 7
    assert drawn == [((3, *size[::-1], 3), 1, 2.0)]


def test_a_gpu_with_too_little_memory_is_reported_at_the_start(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = FlowDecoder(flow)
    decoder.device = "cuda"

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(decoder, "draw", fail)
    with pytest.raises(ConfigError, match="3 pictures of 512 x 512 pixels; lower decoder_batch or"):
        Drawer(decoder, 3, max_pixels=512 * 512)


def test_the_decoder_is_opened_by_its_folder(flow: Flow, tmp_path: Path) -> None:
    save_flow(flow, tmp_path / "flow")
    assert load(tmp_path / "flow", "auto", 1, 2).device == "cpu"
    for folder, message in (("nowhere", "no such folder"), (".", "not a flow decoder")):
        with pytest.raises(ConfigError, match=message):
            load(tmp_path / folder, "cpu", 1, 2)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"unCLIP pipeline|extra images"):
        load(tmp_path, "cpu", 1, 2)
