"""OWLv2 and Grounding DINO find the same boxes as with transformers' own processors. A batch has
the same results as single pictures.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model_ext.errors import ConfigError
from model_ext.grounding.detector import Query
from model_ext.grounding.folders import model_type, open_detector, takes
from model_ext.grounding.hub.base import TextDetector
from tests.model_ext.grounding.tiny_hub import write_grounding_dino, write_owlv2

TEXTS = ["a black dog that is running", "Cat", "red car"]
# (start, end) of each text's tokens in Grounding DINO's prompt. Each word and each full stop is one
# token.
PLACES = [(1, 7), (8, 9), (10, 12)]
SIZES = [(48, 64), (64, 48), (200, 6), (6, 200), (48, 64)]


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    smooth = (rng.integers(0, 256, (4, 4, 3)).astype(np.uint8) for _ in SIZES)
    return [
        np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))
        for small, size in zip(smooth, SIZES, strict=True)
    ]


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("scipy")  # transformers' image processor for OWLv2 needs scipy
    folder = tmp_path_factory.mktemp("owlv2")
    write_owlv2(folder)
    return folder


@pytest.fixture(scope="module")
def grounding_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grounding-dino")
    write_grounding_dino(folder)
    return folder


@pytest.fixture(params=["owlv2", "grounding_dino"])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def reference(folder: Path, picture: np.ndarray) -> dict[str, Any]:
    """Compute boxes and scores with transformers' own processor, at threshold 0."""
    from transformers import (
        AutoImageProcessor,
        AutoModelForZeroShotObjectDetection,
        AutoTokenizer,
        GroundingDinoProcessor,
        Owlv2Processor,
    )

    kinds = {"owlv2": Owlv2Processor, "grounding-dino": GroundingDinoProcessor}
    processor = kinds[model_type(folder)](
        AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    )
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    text = [TEXTS] if model_type(folder) == "owlv2" else [[each.lower() for each in TEXTS]]
    options = {"padding": "max_length", "max_length": 16} if model_type(folder) == "owlv2" else {}
    inputs = processor(text=text, images=[picture], return_tensors="pt", **options)
    with torch.inference_mode():
        outputs = model(**inputs)
    result: dict[str, Any] = processor.post_process_grounded_object_detection(
        outputs, threshold=0.0, target_sizes=[picture.shape[:2]]
    )[0]
    if model_type(folder) == "grounding-dino":
        result["tokens"] = outputs.logits[0]
    return result


def test_all_boxes_equal_those_of_transformers(folder: Path) -> None:
    detector = open_detector(folder)
    assert isinstance(detector, TextDetector)
    with torch.inference_mode():
        raw = detector.architecture.raw(pictures(), [TEXTS] * len(SIZES))
    for picture, (boxes, scores) in zip(pictures(), raw, strict=True):
        expected = reference(folder, picture)
        assert len(boxes) == len(expected["boxes"]) > 4
        assert float((boxes - expected["boxes"]).abs().max()) < 1e-2
        assert scores.shape[1] == len(TEXTS)
        if "tokens" in expected:
            tokens = expected["tokens"].sigmoid()  # a query's score is the largest of its tokens
            own = torch.stack([tokens[:, first:last].amax(1) for first, last in PLACES], dim=1)
            assert float((scores - own).abs().max()) < 1e-4
        else:
            assert float((scores.amax(1) - expected["scores"]).abs().max()) < 1e-4


def test_a_batch_equals_single_pictures(folder: Path) -> None:
    """Pictures with different numbers of queries share a batch."""
    detector = open_detector(folder)
    own = [[Query(text) for text in TEXTS[: 1 + index % 3]] for index in range(len(SIZES))]
    batch = detector.detect(pictures(), own, 0.0)
    for picture, queries, expected in zip(pictures(), own, batch, strict=True):
        (alone,) = detector.detect([picture], [queries], 0.0)
        assert len(alone) == len(expected) > 0
        for one, other in zip(alone, expected, strict=True):
            assert one.query == other.query
            assert one.box == pytest.approx(other.box, abs=1e-2)
            assert one.score == pytest.approx(other.score, abs=1e-4)


def test_boxes_are_inside_the_picture_and_above_the_threshold(folder: Path) -> None:
    detector = open_detector(folder)
    queries = [[Query(text) for text in TEXTS]] * len(SIZES)
    everything = detector.detect(pictures(), queries, 0.0)
    middle = float(np.median([each.score for own in everything for each in own]))
    for picture, own in zip(pictures(), detector.detect(pictures(), queries, middle), strict=True):
        height, width = picture.shape[:2]
        for each in own:
            left, top, right, bottom = each.box
            assert 0 <= left <= right <= width
            assert 0 <= top <= bottom <= height
            assert each.score > middle
    assert detector.detect(pictures()[:1], [[]], 0.0) == [[]]


def test_many_and_strange_queries_of_grounding_dino(grounding_dino: Path) -> None:
    """The test has more queries than fit into one prompt, queries with separators inside, and empty
    queries.
    """
    detector = open_detector(grounding_dino)
    texts = [*TEXTS * 4, "a. b? c", "...", "", "dog " * 100]
    (found,) = detector.detect(pictures()[:1], [[Query(text) for text in texts]], 0.0)
    assert {each.query for each in found} == set(range(len(texts)))


def test_a_folder_of_another_kind_is_an_error(tmp_path: Path) -> None:
    for content, message in (("{", "not JSON"), ("[]", "model_type"), ('{"model_type": "x"}', "x")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ConfigError, match=message if message != "x" else "model_type"):
            takes(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "owlv2"}')
    assert takes(tmp_path) == "texts"
    with pytest.raises(OSError, match="safetensors"):
        open_detector(tmp_path)
