"""The vectors that condition a decoder of pictures equal recorded ones, and an independent
derivation for the inputs without a record.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from cache_index.enhance import CacheParams
from cache_index.index import CacheIndex
from model_ext.conditioning import Vector
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.registry import preprocess
from server.api.components import Components
from server.conditioning.options import CacheOptions, ImageBindOptions
from server.media.attachments import EMBEDDING, Attachment
from server.media.blob import MemoryBlob
from server.settings import Settings
from tests.server.conditioning.test_conditioner import OFF, attachment, close
from tests.server.media_files import MEDIA

GOLDENS = load_file(MEDIA.parent / "golden" / "image_embeds.safetensors")
COMBOS = json.loads((MEDIA.parent / "golden/index.json").read_text())["visual"]["combos"]
# Mixes for which the released model recorded no value: other modalities, sounds and videos of
# several clips, and negative weights.
MIXES = [
    [("video_a.mp4", 1.0)],
    [("depth", 1.0), ("thermal", 2.0)],
    [("imu", 0.5), ("audio_a.wav", -0.2)],
    [("points_a.npy", 1.0), ("img_b.png", -0.4), ("video_a.mp4", 0.7), ("text0", 1.5)],
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"decoder": "model"})


async def test_goldens_and_an_independent_derivation(
    components: Components, settings: Settings
) -> None:
    """Check all vectors in one test, because starting the components takes seconds."""
    condition = components.conditioner.condition_picture
    for key, golden in GOLDENS.items():
        combo, index = key.split("/")
        attachments = [attachment(name, weight) for name, weight in COMBOS[combo]]
        if index == "nocache":
            conditioned = await condition(attachments, OFF)
        elif index == "knn.index":
            conditioned = await condition(attachments, ImageBindOptions())
        else:
            continue
        assert conditioned.picture is not None
        close(conditioned.picture, golden, 1e-5)
        assert conditioned.explanation.cache == ("off" if index == "nocache" else "on")

    model = ImageBind.from_folder(settings.model / "encoders")
    cache = CacheIndex.open(Path(settings.cache or ""))
    for mix in MIXES:
        for weight in (None, 0.5, 1.0):
            options = OFF if weight is None else ImageBindOptions(cache=CacheOptions(weight=weight))
            attachments = [attachment(*each) for each in mix]
            both = await components.conditioner.condition(attachments, options, with_picture=True)
            expected = derived(model, mix, None if weight is None else cache, weight or 0)
            assert both.picture is not None
            close(both.picture, expected, 1e-5 * max(1.0, float(np.abs(expected).max())))
            plain = await components.conditioner.condition(attachments, options)
            assert plain.picture is None
            close(both.embedding, plain.embedding, 1e-6)

    # A ready embedding has the length that the client states, or that of an image of zeros.
    unit = np.zeros(dim_of(model), np.float32)
    unit[3] = 2
    for norm, length in ((7.5, 7.5), (None, zero_length(model))):
        ready = Attachment(EMBEDDING, MemoryBlob(unit.tobytes()), 1.0, "p", norm=norm)
        vector = (await condition([ready], OFF)).picture
        assert vector is not None
        np.testing.assert_allclose(vector[3], length, rtol=1e-4)


def dim_of(model: ImageBind) -> int:
    return model.config.embed_dim


def zero_length(model: ImageBind) -> float:
    with torch.inference_mode():
        return float(model.prenorm("vision", torch.zeros(1, 3, 224, 224)).norm())


def derived(
    model: ImageBind, mix: list[tuple[str, float]], cache: CacheIndex | None, weight: float
) -> Vector:
    """Compute the vector of a mix by its definition, in float64, with each clip encoded alone."""
    total = np.zeros(dim_of(model))
    for name, share in mix:
        vector = head_mean(model, name)
        if name.startswith("points"):
            vector = vector / 5
        total += share / (sum(each for _, each in mix) + 1e-6) * vector
    if cache is None:
        return total.astype(np.float32)
    length = np.linalg.norm(total)
    query = (total / length).astype(np.float32)
    params = CacheParams(weight=weight)
    return (length * cache.enhance(query[None], [params]).vectors[0]).astype(np.float32)


def head_mean(model: ImageBind, name: str) -> Vector:
    """Compute the mean of the encoder head's outputs for the clips of a file, in float64."""
    part = attachment(name, 1.0)
    assert isinstance(part.source, MemoryBlob)
    data = part.source.head(part.source.size)
    sample = preprocess(part.modality, data, PreprocessConfig.of(model.config))
    encoder = ENCODER_OF[part.modality]
    clips = list(sample[:, None]) if part.modality in ("audio", "video") else [sample]
    with torch.inference_mode():
        vectors = [model.prenorm(encoder, clip[None])[0].double() for clip in clips]
    mean: Vector = torch.stack(vectors).mean(0).numpy()
    return mean
