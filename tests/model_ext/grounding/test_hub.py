"""OWLv2, Grounding DINO and OmDet-Turbo find the same boxes as with transformers' own processors. A
batch has the same results as single pictures.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from model_ext.errors import ConfigError
from model_ext.grounding.detector import Query
from model_ext.grounding.folders import model_type, open_detector, takes
from model_ext.grounding.hub.base import TextDetector
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.views import whole_picture
from tests.model_ext.grounding.tiny_hub import write_grounding_dino, write_omdet, write_owlv2

TEXTS = ["a black dog that is running", "Cat", "red car"]
# (start, end) of each text's tokens in Grounding DINO's prompt. Each word and each full stop is one
# token.
PLACES = [(1, 7), (8, 9), (10, 12)]
SIZES = [(48, 64), (64, 48), (200, 6), (6, 200), (48, 64)]
TURNED = 6  # value of the EXIF orientation: a quarter turn


def files() -> list[bytes]:
    """Pictures as PNG. Two of them are very long, and the EXIF data of the last one turn it."""
    rng = np.random.default_rng(0)
    exif, data = Image.Exif(), []
    for index, size in enumerate(SIZES):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8))
        exif[274] = TURNED if index == len(SIZES) - 1 else 1
        file = io.BytesIO()
        small.resize(size[::-1], Image.Resampling.BICUBIC).save(file, "PNG", exif=exif)
        data.append(file.getvalue())
    return data


def pictures() -> list[np.ndarray]:
    """The pictures as the server's decoding processes read them."""
    return [whole_picture(data, Limits(), {})[0].numpy() for data in files()]


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


@pytest.fixture(scope="module")
def omdet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("omdet")
    write_omdet(folder)
    return folder


@pytest.fixture(params=["owlv2", "grounding_dino", "omdet"])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def processor_of(folder: Path) -> Any:
    from transformers import (
        AutoImageProcessor,
        AutoTokenizer,
        GroundingDinoProcessor,
        Owlv2Processor,
    )
    from transformers.models.omdet_turbo.processing_omdet_turbo import OmDetTurboProcessor

    kinds = {"owlv2": Owlv2Processor, "grounding-dino": GroundingDinoProcessor}
    return {**kinds, "omdet-turbo": OmDetTurboProcessor}[model_type(folder)](
        AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    )


def references(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield boxes and scores of each picture at threshold 0, with Pillow and transformers' own
    processor.
    """
    from transformers import (
        GroundingDinoForObjectDetection,
        OmDetTurboForObjectDetection,
        Owlv2ForObjectDetection,
    )

    processor, kind = processor_of(folder), model_type(folder)
    text: Any = [TEXTS]
    options: dict[str, Any] = {}
    more: dict[str, Any] = {}
    if kind == "owlv2":
        model: Any = Owlv2ForObjectDetection.from_pretrained(folder)
        options = {"padding": "max_length", "max_length": 16}
    elif kind == "grounding-dino":
        model = GroundingDinoForObjectDetection.from_pretrained(folder)
        text = [[each.lower() for each in TEXTS]]
    else:
        model = OmDetTurboForObjectDetection.from_pretrained(folder)
        more = {"max_num_det": model.config.num_queries * len(TEXTS)}
    for data in files():
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        inputs = processor(text=text, images=[picture], return_tensors="pt", **options)
        with torch.inference_mode():
            outputs = model.eval()(**inputs)
        result: dict[str, Any] = processor.post_process_grounded_object_detection(
            outputs, threshold=0.0, target_sizes=[picture.size[::-1]], **more
        )[0]
        if kind == "grounding-dino":
            result["tokens"] = outputs.logits[0]
        yield result


@pytest.mark.parametrize("folder", ["owlv2", "grounding_dino"], indirect=True)
def test_all_boxes_equal_those_of_transformers(folder: Path) -> None:
    for expected, (boxes, scores) in zip(references(folder), raw(folder), strict=True):
        assert len(boxes) == len(expected["boxes"]) > 4
        assert float((boxes - expected["boxes"]).abs().max()) < 1e-2
        assert scores.shape[1] == len(TEXTS)
        if "tokens" in expected:
            tokens = expected["tokens"].sigmoid()  # a query's score is the largest of its tokens
            own = torch.stack([tokens[:, first:last].amax(1) for first, last in PLACES], dim=1)
            assert float((scores - own).abs().max()) < 1e-4
        else:
            assert float((scores.amax(1) - expected["scores"]).abs().max()) < 1e-4


def test_all_boxes_of_omdet_equal_those_of_transformers(
    omdet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers returns a box for each pair of a candidate and a text, in any order, clipped to
    the picture. It removes duplicates with torchvision; here, it keeps them.
    """
    module = "transformers.models.omdet_turbo.processing_omdet_turbo"
    keep_all = lambda boxes, *_: torch.arange(len(boxes))  # noqa: E731
    monkeypatch.setattr(f"{module}.batched_nms", keep_all, raising=False)
    results = zip(references(omdet), pictures(), raw(omdet), strict=True)
    for expected, picture, (boxes, scores) in results:
        height, width = picture.shape[:2]
        clipped = boxes.clamp_min(0).minimum(boxes.new_tensor([width, height, width, height]))
        assert len(expected["boxes"]) == len(boxes) * len(TEXTS) > 4
        for query in range(len(TEXTS)):
            wanted = expected["labels"] == query
            rows = torch.cat([expected["boxes"], 100 * expected["scores"][:, None]], 1)[wanted]
            own = torch.cat([clipped, 100 * scores[:, query, None]], 1)
            distances = torch.cdist(own, rows, p=torch.inf)  # in pixels, and in 1/100 of a score
            assert float(distances.amin(0).max()) < 1e-2
            assert float(distances.amin(1).max()) < 1e-2


def raw(folder: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    detector = open_detector(folder)
    assert isinstance(detector, TextDetector)
    with torch.inference_mode():
        return detector.architecture.raw(pictures(), [TEXTS] * len(SIZES))


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
