"""bindserve's own detector: its proposals, its folder, and equal results for single pictures and
batches.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model_ext.errors import ConfigError
from model_ext.grounding.bind.config import Calibration
from model_ext.grounding.bind.crops import crops
from model_ext.grounding.bind.detector import BindDetector, scores_of
from model_ext.grounding.bind.proposals import STRIDE, centers
from model_ext.grounding.detector import Query
from model_ext.imagebind.model import TensorError
from tests.model_ext.grounding.small import CONFIG, DIM, small_detector

SIZES = [(40, 60), (60, 40), (64, 64), (200, 3), (3, 200), (1, 1)]


@pytest.fixture(scope="module")
def detector() -> BindDetector:
    return small_detector()


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


def queries(count: int) -> list[Query]:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(count, DIM)).astype(np.float32)
    return [Query(vector=vector / np.linalg.norm(vector)) for vector in vectors]


def test_boxes_are_inside_the_picture_and_the_best_comes_first(detector: BindDetector) -> None:
    own = queries(3)
    for picture, found in zip(
        pictures(), detector.detect(pictures(), [own] * len(SIZES), 0.0), strict=True
    ):
        height, width = picture.shape[:2]
        for each in found:
            left, top, right, bottom = each.box
            assert 0 <= left <= right <= width + 1e-3
            assert 0 <= top <= bottom <= height + 1e-3
            assert 0 < each.score < 1
        assert [each.score for each in found] == sorted((e.score for e in found), reverse=True)


def test_a_batch_equals_single_pictures(detector: BindDetector) -> None:
    own = queries(2)
    batch = detector.detect(pictures(), [own] * len(SIZES), 0.0)
    for picture, expected in zip(pictures(), batch, strict=True):
        (alone,) = detector.detect([picture], [own], 0.0)
        assert [each.query for each in alone] == [each.query for each in expected]
        for one, other in zip(alone, expected, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-2)
            assert one.score == pytest.approx(other.score, abs=1e-4)


def test_a_query_has_its_score_whatever_other_queries_there_are(detector: BindDetector) -> None:
    own = queries(4)
    picture = pictures()[0]
    (together,) = detector.detect([picture], [own], 0.0)
    for index, query in enumerate(own):
        (alone,) = detector.detect([picture], [[query]], 0.0)
        expected = sorted((e.score for e in together if e.query == index), reverse=True)
        assert [each.score for each in alone] == pytest.approx(expected, abs=1e-5)
    assert detector.detect([picture], [[]], 0.0) == [[]]


def test_the_folder_keeps_the_detector(detector: BindDetector, tmp_path: Path) -> None:
    detector.save(tmp_path / "detector")
    copy = BindDetector.from_folder(tmp_path / "detector")
    expected = detector.half().float()
    own = queries(2)
    one = copy.detect(pictures()[:2], [own] * 2, 0.0)
    other = expected.detect(pictures()[:2], [own] * 2, 0.0)
    assert one == other


def test_a_wrong_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "detector"
    small_detector().save(folder)
    document = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"side": 50}, "side"),
        ({"surprise": 1}, "surprise"),
        ({"encoder": {"embed_dim": 16}}, "vision"),
        ({"calibration": {"text": {"slope": -1, "weight": 1, "offset": 0}}}, "slope"),
    ):
        (folder / "config.json").write_text(json.dumps(document | change))
        with pytest.raises(ConfigError, match=message):
            BindDetector.from_folder(folder)
    (folder / "config.json").write_text(json.dumps(document | {"head_channels": 16}))
    with pytest.raises(TensorError, match="do not fit"):
        BindDetector.from_folder(folder)
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(TensorError, match="damaged"):
        BindDetector.from_folder(folder)


def test_a_curve_belongs_to_the_modality_of_the_query(detector: BindDetector) -> None:
    detector.config = CONFIG.model_copy(
        update={"calibration": {"audio": Calibration(slope=1, weight=1, offset=-50)}}
    )
    (query,) = queries(1)
    for modality, expected in (("audio", 0), ("text", 1)):
        own = Query(vector=query.vector, modality=modality)
        (found,) = detector.detect(pictures()[:1], [[own]], 1e-9)
        assert bool(found) == bool(expected)
    detector.config = CONFIG


def test_scores_grow_with_the_cosine_and_the_objectness() -> None:
    """The logit of the score is 2 * cosine + 0.5 * log(objectness) - 1."""
    curve = Calibration(slope=2, weight=0.5, offset=-1)
    cosines, objectness = torch.tensor([[0.5, 1.0], [0.5, -1.0]]), torch.tensor([1.0, 0.25])
    scores = scores_of(cosines, objectness, [curve])
    logits = torch.tensor([[0, 1], [-np.log(2), -3 - np.log(2)]], dtype=torch.float32)
    torch.testing.assert_close(scores, 1 / (1 + torch.exp(-logits)))
    assert 0 < float(scores_of(torch.zeros(1, 1), torch.zeros(1), [curve])) < 1e-3
    other = Calibration(slope=3, weight=0, offset=-2)
    both = scores_of(cosines, objectness, [curve, other])
    torch.testing.assert_close(both[:, 0], scores[:, 0])
    torch.testing.assert_close(both[:, 1], torch.sigmoid(torch.tensor([1.0, -5.0])))


def test_centers_are_those_of_the_cells() -> None:
    places = centers(32, torch.device("cpu"))
    assert places.shape == (16, 2)
    assert places[0].tolist() == [STRIDE / 2, STRIDE / 2]
    assert places[1].tolist() == [STRIDE * 1.5, STRIDE / 2]
    assert places[4].tolist() == [STRIDE / 2, STRIDE * 1.5]


def test_crops_contain_the_box_with_a_margin() -> None:
    picture = torch.zeros(3, 40, 40)
    picture[:, 10:20, 10:30] = 1
    (crop,) = crops(picture, torch.tensor([[10, 10, 30, 20.0]]), 0.0, 20)
    # The crop shows the square of 20 x 20 pixels at (10, 5). The box fills the middle half of this
    # square.
    assert crop[0, 5:15].min() == 1
    assert crop[0, :5].max() == crop[0, 15:].max() == 0
    outside = crops(picture, torch.tensor([[-10, -10, 5, 5], [50, 50, 60, 60.0]]), 0.1, 8)
    assert outside.shape == (2, 3, 8, 8)
    assert outside[1].abs().max() == 0
