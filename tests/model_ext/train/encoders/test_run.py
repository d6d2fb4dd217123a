"""Training runs of encoders on a small data set.

The loss decreases, a resumed run gives the weights of an uninterrupted run, and frozen encoders do
not change.
"""

import json
from pathlib import Path

import pytest
import torch

from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.train.encoders.config import EncodersConfig
from model_ext.train.encoders.embed import embed
from model_ext.train.encoders.run import Aligner, train_encoders
from model_ext.train.encoders.samples import load
from model_ext.train.encoders.start import start_small
from model_ext.train.errors import TrainError
from tests.model_ext.train.encoders.conftest import KEYS, SIZES


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_it_learns_to_tell_the_keys_apart(config: EncodersConfig) -> None:
    config = config.model_copy(
        update={
            "steps": 100,
            "learning_rate": 2e-3,
            "validation_list": config.train_list,
            "smoothing": 0.0,
        }
    )
    shares = train_encoders(config)
    curve = losses(config.out)
    assert len(curve) == 100
    assert sum(curve[-10:]) < 0.7 * sum(curve[:10])
    assert shares["vision"] > 0.7
    assert shares["text"] > 0.7
    encoders = ImageBind.from_folder(config.out / "encoders")
    assert set(encoders.modalities) == set(config.train)


def test_a_resumed_run_has_the_same_losses(config: EncodersConfig, tmp_path: Path) -> None:
    whole = config.model_copy(update={"out": tmp_path / "whole"})
    train_encoders(whole)
    train_encoders(config, until=3)
    train_encoders(config)
    assert losses(config.out) == losses(whole.out)
    one = ImageBind.from_folder(whole.out / "encoders").state_dict()
    other = ImageBind.from_folder(config.out / "encoders").state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_lines_after_the_checkpoint_are_written_again(config: EncodersConfig) -> None:
    """A resumed run replaces the lines that the killed run logged after its last checkpoint."""
    train_encoders(config, until=3)
    with (config.out / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 7}\n{"step": 4, "lo')
    train_encoders(config)
    lines = [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(6))
    assert all(line.get("loss") != 7 for line in lines)


def test_frozen_vision_is_an_anchor(config: EncodersConfig, tmp_path: Path) -> None:
    sizes = {name: SIZES[name] for name in ("embed_dim", "vision")}
    first = config.model_copy(update={"train": ("vision",), "encoders": sizes})
    train_encoders(first)
    second = config.model_copy(
        update={
            "out": tmp_path / "second",
            "start": first.out / "encoders",
            "train": ("audio", "point"),
            "anchor_views": 2,
        }
    )
    train_encoders(second)
    before = ImageBind.from_folder(first.out / "encoders").state_dict()
    after = ImageBind.from_folder(second.out / "encoders").state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert {name.split(".")[0] for name in after} == {"vision", "text", "audio", "point", "imu"}


def test_refined_encoders_stay_in_the_space_that_they_start_from(
    config: EncodersConfig, tmp_path: Path
) -> None:
    """With `mean_anchors`, training changes only the encoder `vision`, also after a resume."""
    first = config.model_copy(update={"steps": 60, "learning_rate": 2e-3})
    train_encoders(first)
    settings = {"start": first.out / "encoders", "train": ("vision",), "mean_anchors": True}
    whole = config.model_copy(update=settings | {"out": tmp_path / "whole"})
    shares = train_encoders(whole.model_copy(update={"validation_list": config.train_list}))
    assert shares["vision"] > 0.7
    before = ImageBind.from_folder(first.out / "encoders").state_dict()
    after = ImageBind.from_folder(whole.out / "encoders").state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert {name.split(".")[0] for name in changed} == {"vision"}
    halves = config.model_copy(update=settings | {"out": tmp_path / "halves"})
    train_encoders(halves, until=3)
    train_encoders(halves)
    assert losses(halves.out) == losses(whole.out)


def test_a_picture_without_anchor_is_trained_on_but_not_in_the_mean(
    config: EncodersConfig, world: Path, tmp_path: Path
) -> None:
    """Pictures with `anchor` false do not change the mean embedding of their key."""
    rows = [
        {"key": key, "modality": "image", "path": f"{shown}0.png", "anchor": key == shown}
        for key, other in zip(KEYS, KEYS[1:] + KEYS[:1], strict=True)
        for shown in (key, other)
    ]
    list_file = world / "no-anchors.jsonl"
    list_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    torch.manual_seed(0)
    fresh = ImageBind(config.sizes)
    start_small(fresh)  # With ImageBind's initial weights, all embeddings would be almost equal.
    fresh.save(tmp_path / "start")
    config = config.model_copy(
        update={
            **{"train_list": list_file, "start": tmp_path / "start", "train": ("vision",)},
            **{"mean_anchors": True, "anchor_views": 1},
        }
    )
    samples = load(
        list_file, ["vision"], config.out, PreprocessConfig.of(config.sizes), config.image_side
    )
    start = ImageBind.from_folder(tmp_path / "start").eval()
    aligner = Aligner(config, ImageBind.from_folder(tmp_path / "start"), samples)
    # Shape (2 * things, D), two rows per thing: a picture of it, and a picture of another thing.
    vectors = embed(start, "vision", samples["vision"].data)
    for row in range(0, len(rows), 2):
        own = vectors[row].expand(2, -1)
        torch.testing.assert_close(aligner.anchors[row : row + 2, 0], own, atol=1e-5, rtol=0)
        # the two pictures of a key have different embeddings
        assert (vectors[row] - vectors[row + 1]).norm() > 0.1
    assert set(aligner.batches.rows["vision"]) == set(KEYS)
    assert all(len(pictures) == 2 for pictures in aligner.batches.rows["vision"].values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": ("smell",)}, "train: no such encoder: smell"),
        ({"train": ()}, "name at least one encoder"),
        ({"encoders": {"embed_dim": 8, "text": SIZES["text"]}}, "vision is missing"),
        ({"train": ("audio",)}, "start: required if vision is not trained"),
        ({"train": ("vision",), "pair_pictures": False}, "pair_pictures: must be true"),
        ({"mean_anchors": True}, "start: required for mean_anchors"),
        ({"stepps": 3}, "stepps"),
        ({"steps": 0}, "steps"),
    ],
)
def test_wrong_settings_are_named(
    config: EncodersConfig, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    settings = config.model_dump(mode="json") | change
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(settings, default=list))
    with pytest.raises(TrainError, match=message):
        EncodersConfig.from_file(path)
