"""The readers decode files in the formats that phones, browsers, scanners and data sets write.
tests/corpus.py made the files. Each file must decode to almost the same tensor as the data from
which it was made, and the demonstration model's encoders must give both almost the same embedding.
"""

import io
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor
from trimesh.sample import sample_surface

from model_ext.conditioning import Vector
from model_ext.demo import prepare
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.registry import decode
from model_ext.imagebind.preprocess.sniff import sniff
from model_ext.imagebind.subset import load_encoders
from tests.corpus import (
    DOCUMENT,
    FOLDER,
    LOSSY,
    RATE,
    document,
    encode_video,
    file_names,
    mesh,
    points,
    save_picture,
    saved_array,
    waveform,
)

FILES = sorted(FOLDER.iterdir())
NARROW = "amr"  # Its recordings have 8,000 samples per second, and so has their original.
# For this file, three pictures are about equally near (0.33, 0.33 and 0.31), and the order changes.
NEAR_TIE = "audio-b-amr.amr"
SAMPLED = ("off", "stl", "stl-ascii", "glb")  # meshes, on which the reader samples points


def parts(path: Path) -> tuple[str, str, str]:
    modality, content, name = path.stem.split("-", 2)
    return modality, content, name


def lossless(modality: str, content: str, name: str) -> bytes:
    """Return the original, lossless file from which the committed file of the format `name` was
    made.
    """
    if modality == "audio":
        file, factor = io.BytesIO(), 2 if name == NARROW else 1
        samples = resample_poly(waveform(content), 1, factor)
        soundfile.write(file, samples, RATE // factor, "FLOAT", format="WAV")
        return file.getvalue()
    if modality == "image":
        return save_picture(content, "PNG")
    if modality == "video":
        return encode_video(content, "matroska", "ffv1", wide=name == "3gp")
    if name in SAMPLED:  # with the number and the seed of the reader
        return saved_array(sample_surface(mesh(content), 8192, seed=0)[0].astype(np.float32))
    return saved_array(expected_points(content, name))


def expected_points(content: str, name: str) -> np.ndarray:
    return np.delete(points(content), np.s_[::7], 0) if name == "nan" else points(content)


@cache
def original(modality: str, content: str, name: str = "") -> Tensor:
    return decode(modality, lossless(modality, content, name)).tensor


def stretched(content: str) -> Tensor:
    """Return the first frame (3, 224, 224) of the lossless video of the stretched picture."""
    return decode("video", lossless("video", content, "3gp")).tensor[1, :, 0]


@pytest.fixture(scope="module")
def encoders() -> ImageBind:
    return load_encoders(prepare.HERE / prepare.ENCODERS, {"vision", "audio", "point"})


@pytest.fixture(scope="module")
def gallery() -> Vector:
    """The pictures' embeddings (M, D) in the demonstration's cache."""
    return np.load(prepare.HERE / prepare.CACHE / "vectors.npy").astype(np.float32)


def embedding(encoders: ImageBind, modality: str, data: bytes) -> Vector:
    sample = decode(modality, data, PreprocessConfig.of(encoders.config))
    with torch.inference_mode():
        unit: Vector = encoders.unit(ENCODER_OF[sample.modality], sample.tensor[None])[0].numpy()
    return unit


def similarity(one: Tensor, other: Tensor) -> float:
    centred = [each.double().flatten() - each.double().mean() for each in (one, other)]
    return float(torch.nn.functional.cosine_similarity(*centred, dim=0))


def distance(cloud: Tensor, expected: np.ndarray) -> float:
    """Return the mean distance from a point of `expected` to the nearest point of `cloud`."""
    return float(torch.cdist(torch.from_numpy(expected), cloud).amin(1).mean())


def test_the_matrix_has_enough_formats() -> None:
    formats = Counter(modality for modality, content, _ in map(parts, FILES) if content == "a")
    assert formats["audio"] >= 8
    assert formats["video"] >= 8
    assert formats["image"] >= 10
    assert formats["point"] >= 12
    assert {path.name for path in FILES} == file_names()
    assert len(FILES) >= 140
    assert sum(path.stat().st_size for path in FILES) < 3 * 2**20


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_decoded_like_its_original(path: Path) -> None:
    modality, content, name = parts(path)
    data = path.read_bytes()
    sample = decode(sniff(data[:8192]) or "", data)
    assert sample.modality == modality
    other = "b" if content == "a" else "a"
    pair = (content, other)
    if modality == "point" and name not in SAMPLED:
        expected = expected_points(content, name)
        np.testing.assert_allclose(sample.tensor.numpy(), expected, rtol=0, atol=1e-5)
        return
    if modality == "point":
        assert distance(sample.tensor, points(content)) < 0.05
        assert distance(sample.tensor, points(other)) > 0.05
        return
    if modality == "video":
        # Compare the first frame of the first clip (middle crop) with the picture that this frame
        # shows. H.263 (3gp) has a fixed size, to which the picture was stretched.
        shown = [stretched(each) if name == "3gp" else original("image", each) for each in pair]
        tensors = sample.tensor[1, :, 0], *shown
    else:
        rate = NARROW if name == NARROW else ""
        tensors = sample.tensor, original(modality, content, rate), original(modality, other, rate)
    bound = 0.98
    if name in LOSSY[modality]:
        bound = 0.8 if modality == "audio" else 0.9  # sound codecs drop noise
    assert similarity(tensors[0], tensors[1]) >= bound
    assert similarity(tensors[0], tensors[1]) > similarity(tensors[0], tensors[2])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_embedded_like_its_original(
    path: Path, encoders: ImageBind, gallery: Vector
) -> None:
    modality, content, name = parts(path)
    vector = embedding(encoders, modality, path.read_bytes())
    expected = embedding(encoders, modality, lossless(modality, content, name))
    assert vector @ expected >= (0.9 if name in LOSSY[modality] else 0.98)
    if path.name != NEAR_TIE:
        assert (gallery @ vector).argmax() == (gallery @ expected).argmax()


def test_the_document_lists_what_is_tested() -> None:
    """`python -m tests.corpus` writes the document."""
    assert DOCUMENT.read_text() == document()
