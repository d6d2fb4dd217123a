"""The expert for objects: a classifier with random weights gives the scores of transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model_ext.errors import ConfigError
from model_ext.experts.labels import MAX_LABELS, read_labels
from model_ext.experts.objects import Objects, load
from model_ext.experts.texts import labelled
from model_ext.side import Cancelled, SideData, Task, TaskError
from tests.model_ext.experts.tiny_classifier import LABELS, write_classifier


@pytest.fixture(scope="module", params=["one", "several"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    several = request.param == "several"
    return write_classifier(tmp_path_factory.mktemp("classifier"), several=several)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("one"))


def picture(seed: int, height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST))


def task(pictures: NDArray[np.uint8]) -> Task:
    return Task(SideData({}, {"pictures": pictures}))


def names(objects: Objects, *pictures: NDArray[np.uint8]) -> list[list[str]]:
    return [each.document["labels"] for each in objects.run([task(own) for own in pictures])]


def test_scores_equal_those_of_transformers(folder: Path) -> None:
    """The calls are those of the documentation of transformers, with each picture alone."""
    from transformers import AutoImageProcessor, ViTForImageClassification

    pictures = [picture(0), picture(1, 200, 6), picture(2, 6, 200)]
    scores = load(str(folder), "cpu").scores(pictures)
    assert scores.shape == (3, len(LABELS))
    processor = AutoImageProcessor.from_pretrained(folder)
    model = ViTForImageClassification.from_pretrained(folder)
    several = model.config.problem_type == "multi_label_classification"
    for own, each in zip(scores, pictures, strict=True):
        with torch.no_grad():
            (logits,) = model(**processor(Image.fromarray(each), return_tensors="pt")).logits
        expected = logits.sigmoid() if several else logits.exp() / logits.exp().sum()
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-6)
        assert several or float(own.sum()) == pytest.approx(1)


def test_a_batch_gives_the_labels_of_single_tasks(folder: Path) -> None:
    objects = load(str(folder), "cpu", threshold=0.05)
    sizes = [(0, 1, 20), (1, 10, 40), (11, 3, 30), (14, 2, 25)]  # first picture, number, height
    files = [
        np.stack([picture(seed, height) for seed in range(first, first + count)])
        for first, count, height in sizes
    ]
    together = names(objects, *files)
    assert together == [names(objects, each)[0] for each in files]
    assert len({tuple(each) for each in together}) > 1


def test_a_label_needs_the_threshold_in_one_frame(one: Path) -> None:
    frames = np.stack([picture(seed) for seed in range(20)])
    scores = load(str(one), "cpu").scores(list(frames))
    short = [label.split(",")[0] for label in LABELS]
    for threshold in (0.1, 0.5, 0.9):
        objects = load(str(one), "cpu", threshold=threshold)
        for frame, own in zip(frames, scores, strict=True):
            chosen = [index for index in own.argsort(descending=True) if own[index] >= threshold]
            assert names(objects, frame[None]) == [[short[index] for index in chosen]]
        best = scores.amax(0)
        order = [index for index in best.argsort(descending=True) if best[index] >= threshold]
        assert names(objects, frames) == [[short[index] for index in order]]
    assert len({int(own.argmax()) for own in scores}) > 1


def test_no_picture_has_no_labels(one: Path) -> None:
    objects = load(str(one), "cpu", threshold=0.0)
    (result,) = objects.run([task(np.zeros(0, np.uint8))])
    assert labelled(result.document) == ""
    assert labelled(objects.run([task(picture(0)[None])])[0].document).count(", ") == 4


def test_a_cancelled_task_stops_and_options_are_rejected(one: Path) -> None:
    objects = load(str(one), "cpu")
    left = task(picture(0)[None])
    left.cancelled = True
    with pytest.raises(Cancelled):
        objects.run([left])
    assert len(objects.run([left, task(picture(0)[None])])) == 2
    with pytest.raises(TaskError):
        objects.kind({"threshold": 0.5})
    assert objects.kind({}) is None


def test_a_folder_without_a_classifier_is_named(one: Path, tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    for name, text in (("none", None), ("list", "[]"), ("empty", "{}"), ("text", "?")):
        folder = tmp_path / name
        folder.mkdir()
        if text is not None:
            (folder / "config.json").write_text(text)
        with pytest.raises(ConfigError, match=f"{name}/config.json: not an image classifier"):
            load(str(folder))
    # transformers would load this model with a head of random weights
    ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path / "encoder"
    )
    with pytest.raises(ConfigError, match="not an image classifier"):
        load(str(tmp_path / "encoder"))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in one.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "model.safetensors").write_bytes(b"\x08")
    with pytest.raises(ConfigError, match="damaged"):
        load(str(damaged))
    (damaged / "model.safetensors").unlink()
    torch.save({}, damaged / "pytorch_model.bin")  # a pickle
    with pytest.raises(ConfigError, match="damaged"):
        load(str(damaged))


def test_the_labels_of_a_file(tmp_path: Path) -> None:
    everyday = read_labels(None)
    assert 50 < len(everyday) < 100
    assert {"dog", "umbrella", "traffic light"} <= set(everyday)
    path = tmp_path / "labels.txt"
    path.write_text("# things\n\n red  car \ndog\nred car\n")
    assert read_labels(path) == ("red car", "dog")
    wrong = (b"# none", b"a" * 101, b"\xff", b"".join(b"%d\n" % n for n in range(MAX_LABELS + 1)))
    for data in wrong:
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=r"labels\.txt"):
            read_labels(path)
    with pytest.raises(OSError, match="nowhere"):
        read_labels(tmp_path / "nowhere")
