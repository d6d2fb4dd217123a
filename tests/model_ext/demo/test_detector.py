"""The committed detector and encoders fit together: a text finds what a picture shows."""

import numpy as np
import torch
from PIL import Image

from model_ext.demo.prepare import ENCODERS, HERE
from model_ext.demo.splits import CONCEPTS
from model_ext.grounding.bind.detector import BindDetector
from model_ext.grounding.detector import Query
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.registry import preprocess

LEFT, TOP, SIDE = 240, 130, 120  # where the picture shows the cat


@torch.no_grad()
def test_a_text_finds_the_thing_of_a_picture() -> None:
    """For a random detector, 1 of 64 names would be the best."""
    encoders = ImageBind.from_folder(HERE / ENCODERS)
    detector = BindDetector.from_folder(HERE / "detector")
    picture = Image.new("RGB", (400, 300), "white")
    picture.paste(Image.open(HERE / "media" / "cat.jpg").resize((SIDE, SIDE)), (LEFT, TOP))
    sizes = PreprocessConfig.of(encoders.config)
    texts = [preprocess("text", concept.encode(), sizes) for concept in CONCEPTS]
    vectors = encoders.unit("text", torch.stack(texts)).numpy()
    queries = [Query(name, row, "text") for name, row in zip(CONCEPTS, vectors, strict=True)]
    (detections,) = detector.detect([np.array(picture)], [queries], detector.threshold)
    assert CONCEPTS[detections[0].query] == "cat"
    left, top, right, bottom = detections[0].box
    assert LEFT - 5 < left < right < LEFT + SIDE + 5
    assert TOP - 5 < top < bottom < TOP + SIDE + 5
