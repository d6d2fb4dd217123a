"""Training of the detector: scenes with exact boxes, losses, resumption, and a run that learns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from model_ext.grounding.bind.detector import BindDetector
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import ImageBind
from model_ext.train.detector import calibrate
from model_ext.train.detector.calibrate import best_threshold, fit
from model_ext.train.detector.config import DetectorConfig
from model_ext.train.detector.loss import assign, proposal_loss
from model_ext.train.detector.run import open_trainer, train_detector
from model_ext.train.detector.scenes import MAX_COVERED, compose
from model_ext.train.detector.textures import HELD_OUT, TEXTURES, background
from model_ext.train.errors import TrainError

SIZES = {
    "embed_dim": 16,
    "vision": {"width": 16, "blocks": 1, "heads": 2, "image_size": 32, "patch_size": 16},
    "text": {"width": 16, "blocks": 1, "heads": 2, "context_length": 8},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with encoders, and with lists of two drawings."""
    folder = tmp_path_factory.mktemp("detection")
    torch.manual_seed(0)
    ImageBind(ImageBindConfig.from_json(json.dumps(SIZES))).save(folder / "encoders")
    rows = []
    for key, color in (("disc", "red"), ("board", "blue")):
        image = Image.new("RGBA", (48, 48), (0, 0, 0, 0))
        draw = ImageDraw.Draw(image)
        shape = draw.ellipse if key == "disc" else draw.rectangle
        shape((4, 10, 44, 38), fill=color)
        image.save(folder / f"{key}.png")
        rows.append({"key": key, "modality": "image", "path": f"{key}.png"})
        rows.append({"key": key, "modality": "text", "text": f"a {key}"})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "list.jsonl").write_text(text)
    return folder


def config(world: Path, out: Path, **changes: object) -> DetectorConfig:
    return DetectorConfig.model_validate(
        {
            **{"out": out, "train_list": world / "list.jsonl", "encoders": world / "encoders"},
            **{"steps": 4, "batch": 2, "side": 64, "max_drawings": 3, "image_side": 32},
            **{"warmup_steps": 1, "threads": 1, "device": "cpu"},
            **changes,
        }
    )


def drawings() -> np.ndarray:
    """Make a drawing with one opaque rectangle, whose box is known."""
    drawing = np.zeros((1, 4, 32, 32), np.uint8)
    drawing[0, 0, 8:24, 4:28] = 255
    drawing[0, 3, 8:24, 4:28] = 255
    return drawing


def test_boxes_enclose_the_pixels_of_the_drawings() -> None:
    """The background has no red, so the box must enclose exactly the red pixels of the only
    drawing.
    """

    def black(_rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        return np.zeros((height, width), np.float32)

    checked = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scene = compose(drawings(), rng, 96, 1, (black,))
        if len(scene.boxes) != 1:
            continue
        red = scene.picture[..., 0].astype(int) - scene.picture[..., 1]
        ground = red[0, 0] if red.max() - red.min() > 150 else None
        if ground is None:
            continue
        rows, columns = np.nonzero(np.abs(red - np.median(red)) > 100)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert scene.boxes[0] == pytest.approx(expected, abs=2.5)
        checked += 1
    assert checked > 5


def test_drawings_do_not_cover_each_other_too_much_and_a_seed_repeats_a_scene() -> None:
    sizes = []
    for seed in range(20):
        scene = compose(drawings(), np.random.default_rng(seed), 128, 8)
        again = compose(drawings(), np.random.default_rng(seed), 128, 8)
        assert (scene.picture == again.picture).all()
        for i, a in enumerate(scene.boxes):
            sizes.append(a[2] - a[0])
            assert a[:2].min() >= 0
            assert a[2] <= scene.picture.shape[1]
            assert a[3] <= scene.picture.shape[0]
            for b in scene.boxes[:i]:
                width = min(a[2], b[2]) - max(a[0], b[0])
                height = min(a[3], b[3]) - max(a[1], b[1])
                area = min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))
                assert max(0, width) * max(0, height) <= MAX_COVERED * area + 1e-3
    assert max(sizes) > 3 * min(sizes)


@pytest.mark.parametrize("texture", [*TEXTURES, *HELD_OUT], ids=lambda each: each.__name__)
def test_textures_have_values_from_0_to_1(texture: object) -> None:
    for seed in range(5):
        values = texture(np.random.default_rng(seed), 30, 50)  # type: ignore[operator]
        assert values.shape == (30, 50)
        assert values.min() >= -1e-6
        assert values.max() <= 1 + 1e-6
    assert background(np.random.default_rng(0), 30, 50, (texture,)).shape == (30, 50, 3)  # type: ignore[arg-type]


def test_a_cell_learns_the_smallest_box_whose_middle_is_near() -> None:
    boxes = torch.tensor([[0, 0, 64, 64], [24, 24, 40, 40.0], [0, 0, 0, 0]])
    (near,) = assign(boxes[None], 64)
    assert near[3 * 8 + 3] == 1  # The cell at (28, 28).
    assert near[3 * 8 + 2] == 0  # The cell at (20, 28) is too far from the small box's middle.
    assert near[0] == -1  # A box without area has no cells.
    assert (assign(boxes[None, 2:], 64) == -1).all()
    both = assign(torch.stack([boxes, boxes[[2, 1, 0]]]), 64)
    assert torch.equal(both[0], near)
    assert both[1, 3 * 8 + 2] == 2


def test_large_boxes_have_at_most_nine_cells() -> None:
    (near,) = assign(torch.tensor([[[0, 0, 300, 310.0]]]), 320)
    assert 4 <= int((near >= 0).sum()) <= 9


def test_right_boxes_have_no_loss() -> None:
    truth = torch.tensor([[[8, 8, 40, 40.0]]])
    logits = torch.where(assign(truth, 64) >= 0, 20.0, -20.0)
    boxes = truth.expand(1, 64, 4)
    objectness, box, overlap = proposal_loss(logits, boxes, truth, 64)
    assert float(objectness) < 1e-3
    assert float(box) == pytest.approx(0, abs=1e-6)
    assert float(overlap) == pytest.approx(1)
    none, zero, _ = proposal_loss(torch.full((1, 64), -20.0), boxes, truth * 0, 64)
    assert float(none) < 1e-3
    assert float(zero) == 0


def log(run: Path) -> list[str]:
    return (run / "log.jsonl").read_text().splitlines()


def test_an_interrupted_run_continues_where_it_stopped(world: Path, tmp_path: Path) -> None:
    whole = train_detector(config(world, tmp_path / "whole"))
    train_detector(config(world, tmp_path / "parts"), until=2)
    parts = train_detector(config(world, tmp_path / "parts"))
    one, other = (BindDetector.from_folder(each).state_dict() for each in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)
    steps = [json.loads(line)["step"] for line in log(tmp_path / "parts")]
    assert steps == [0, 1, 2, 3]


def test_a_run_learns_where_its_drawings_are(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "SCENES", 8)
    settings = config(
        world,
        tmp_path / "run",
        **{"steps": 50, "batch": 8, "learning_rate": 0.003, "max_drawings": 1},
        validation_list=world / "list.jsonl",
    )
    folder = train_detector(settings)
    lines = [json.loads(line) for line in log(tmp_path / "run")]
    first, last = (np.mean([each["overlap"] for each in part]) for part in (lines[:5], lines[-5:]))
    assert last > first + 0.08
    calibration = BindDetector.from_folder(folder).config.calibration
    assert set(calibration) == {"image", "text"}


def test_a_step_without_drawings_changes_no_embedding(world: Path, tmp_path: Path) -> None:
    """An invisible drawing gets no place, so that there are no boxes and no crops."""
    trainer = open_trainer(config(world, tmp_path / "run"))
    trainer.composer.drawings.zero_()
    before = [each.clone() for each in trainer.model.encoder.parameters()]
    numbers = trainer.step(1)
    assert numbers["loss/embedding"] == numbers["loss/names"] == numbers["loss/boxes"] == 0
    after = trainer.model.encoder.parameters()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_omitted_keys_and_missing_pictures(world: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no pictures"):
        train_detector(config(world, tmp_path / "none", omit=("disc", "board")))
    with pytest.raises(TrainError, match="no such file"):
        DetectorConfig.from_file(tmp_path / "missing.yaml")
    (tmp_path / "bad.yaml").write_text("steps: 0\n")
    with pytest.raises(TrainError, match="out"):
        DetectorConfig.from_file(tmp_path / "bad.yaml")


def test_a_curve_and_a_threshold_separate_two_classes() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat([True, False], [100, 1000])
    cosines = np.where(same, rng.normal(0.6, 0.1, 1100), rng.normal(0.2, 0.1, 1100))
    objectness = np.where(same, 0.8, rng.uniform(0.1, 1, 1100)).astype(np.float32)
    curve = fit(cosines.astype(np.float32), objectness, same)
    middle = -(curve.offset + curve.weight * np.log(0.8)) / curve.slope
    assert 0.3 < middle < 0.5
    assert curve.weight > 0.2
    assert 0.3 < best_threshold(cosines.astype(np.float32), same) < 0.5
    with pytest.raises(TrainError):
        fit(cosines.astype(np.float32), objectness, np.zeros(1100, bool))


def test_a_detector_that_finds_nothing_cannot_be_calibrated(world: Path, tmp_path: Path) -> None:
    settings = config(world, tmp_path / "run", validation_list=world / "list.jsonl")
    model = open_trainer(settings).model.eval()
    model.config = model.config.model_copy(update={"min_objectness": 1.0})
    with pytest.raises(TrainError, match="no boxes"):
        calibrate.calibrate(model, settings)
