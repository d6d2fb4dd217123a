"""Batches of training scenes: exact boxes, few overlaps, repeatable; and the targets of crops."""

import pytest
import torch
from torch.nn import functional as F

from model_ext.grounding.bind.crops import crops, sampled_crops
from model_ext.imagebind.preprocess.image import MEAN, STD
from model_ext.train.detector.batches import Composer, blurred, enclosing, extents
from model_ext.train.detector.names import TEMPERATURE, name_vectors
from model_ext.train.detector.places import covered, outlines, places
from model_ext.train.detector.scenes import MAX_COVERED
from model_ext.train.encoders.batches import generator

SIDE = 96


def drawings() -> torch.Tensor:
    """Make two drawings: a white rectangle, and an invisible one."""
    made = torch.zeros(2, 4, 32, 32, dtype=torch.uint8)
    made[0, :, 8:24, 4:28] = 255
    return made


def composer(slots: int = 6, weights: tuple[float, float] = (1.0, 0.0)) -> Composer:
    return Composer(drawings(), torch.tensor(weights), SIDE, slots, 6, "cpu", 0)


def test_boxes_enclose_the_drawings_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a black background, the box of the only drawing contains exactly the pixels that are not
    black. Faint pixels at the edges do not count.
    """
    made = composer(slots=1)
    monkeypatch.setattr(made, "_background", lambda count, _g: torch.zeros(count, 3, SIDE, SIDE))
    monkeypatch.setattr(made, "_colored", lambda rgb, _g: rgb)
    scenes = made.compose(40, generator(0, 0))
    bright = (scenes.pictures * STD[:, None, None] + MEAN[:, None, None]).amin(1)
    outside = (scenes.pictures == 0).all(1)
    assert scenes.filled.sum() >= 38
    expected = enclosing((bright >= 0.25) & ~outside)
    difference = (scenes.boxes[:, 0] - expected).abs()[scenes.filled[:, 0]]
    assert float(difference.max()) <= 1


def test_drawings_cover_little_of_each_other_and_a_seed_repeats_a_batch() -> None:
    made = composer()
    one, again = (made.compose(30, generator(0, 1)) for _ in range(2))
    assert torch.equal(one.pictures, again.pictures)
    assert torch.equal(one.boxes, again.boxes)
    other = made.compose(30, generator(0, 2))
    assert not torch.equal(one.pictures, other.pictures)
    counts = one.filled.sum(1)
    assert counts.min() >= 0
    assert counts.max() >= 4
    shares = covered(one.boxes, one.boxes) - 2 * torch.eye(6)
    # Tilted and bent drawings are a little larger or smaller than their outlines.
    assert shares.max() <= MAX_COVERED + 0.1
    sides = (one.boxes[..., 3] - one.boxes[..., 1])[one.filled]
    assert sides.max() > 3 * sides.min()


def test_an_invisible_drawing_has_no_box() -> None:
    assert not composer(weights=(0.0, 1.0)).compose(4, generator(0, 0)).filled.any()


def test_places_are_inside_the_scene() -> None:
    g = generator(0, 0)
    outline = torch.tensor([[-10, -20, 30, 5.0], [-50, -1, 50, 1]]).repeat(8, 1, 1)
    sizes = torch.tensor([80.0, 40]).repeat(8, 1)
    middles, used = places(outline, sizes, torch.full((8,), 2), g)
    assert used[:, 0].all()
    assert not used[:, 1].any()  # The second outline is wider than the scene.
    boxes = middles[:, 0].repeat(1, 2) + outline[:, 0]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= sizes).all()


def test_outlines_of_a_turned_drawing() -> None:
    extent = torch.tensor([[[-1, -0.5, 1, 0.5]]])
    quarter = torch.tensor([[[[0, -10], [10, 0.0]]]])  # 90 degrees, half a side of 10 pixels
    assert outlines(extent, quarter)[0, 0].tolist() == [-5, -10, 5, 10]


def test_extents_are_relative_to_the_drawing() -> None:
    first, second = extents(drawings()).tolist()
    assert first == [-0.75, -0.5, 0.75, 0.5]
    assert second == [0, 0, 0, 0]


def test_only_small_drawings_are_blurred() -> None:
    checks = ((torch.arange(8)[:, None] + torch.arange(8)) % 2).float().expand(2, 4, 8, 8)
    same, smooth = blurred(checks, torch.tensor([1.0, 4.0]))
    assert torch.equal(same, checks[0])
    assert smooth == pytest.approx(0.5)


def test_sampled_crops_resemble_the_crops_of_serving() -> None:
    torch.manual_seed(0)
    pictures = F.interpolate(torch.randn(2, 3, 12, 12), (SIDE, SIDE), mode="bicubic")
    boxes = torch.tensor([[10, 20, 50, 70.0], [60, 50, 96, 90]])
    expected = [crops(pictures[i], boxes[i : i + 1], 0.1, 32)[0] for i in (0, 1)]
    sampled = sampled_crops(pictures, torch.tensor([0, 1]), boxes, 0.1, 32)
    assert float((sampled - torch.stack(expected)).abs().mean()) < 0.05
    assert float((sampled - torch.stack(expected[::-1])).abs().mean()) > 0.3


def test_names_use_texts_before_pictures_and_the_right_vector_has_the_lowest_loss() -> None:
    torch.manual_seed(0)
    pictures = F.normalize(torch.randn(4, 8), dim=-1)
    text = F.normalize(torch.randn(1, 8), dim=-1)
    names = name_vectors(["b", "a", "b", "c"], pictures, {"a": text, "unused": text})
    assert torch.allclose(names.bank[0], text[0])
    assert torch.allclose(names.bank[1], F.normalize(pictures[0] + pictures[2], dim=-1))
    assert torch.allclose(names.bank[2], pictures[3])
    assert names.rows.tolist() == [1, 0, 1, 2]
    drawing = torch.tensor([1])
    right, _ = names.losses(names.bank[:1], drawing)
    wrong, _ = names.losses(names.bank[2:], drawing)
    _, near = names.losses(names.targets[1:2], drawing)
    assert float(right) == pytest.approx(0, abs=1e-6)
    assert float(near) == pytest.approx(0, abs=1e-6)
    # The divergence of two rows of similarities, computed independently.
    p, q = (F.softmax(names.bank[i] @ names.bank.T / TEMPERATURE, -1) for i in (0, 2))
    assert float(wrong) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-4)
