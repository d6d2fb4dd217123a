"""The readers decode files in the formats that phones, browsers, scanners and data sets write.
tests/corpus.py made the files. Each file must decode to almost the same tensor as the data from
which it was made.
"""

import io
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from model_ext.imagebind.preprocess.registry import decode
from model_ext.imagebind.preprocess.sniff import sniff
from tests.corpus import (
    DOCUMENT,
    FOLDER,
    LOSSY,
    RATE,
    document,
    file_names,
    points,
    save_picture,
    waveform,
)

FILES = sorted(FOLDER.iterdir())
SAMPLED = ("off", "stl", "stl-ascii", "glb")  # meshes, on which the reader samples points


def parts(path: Path) -> tuple[str, str, str]:
    modality, content, name = path.stem.split("-", 2)
    return modality, content, name


@cache
def original(modality: str, content: str) -> Tensor:
    if modality == "audio":
        file = io.BytesIO()
        soundfile.write(file, waveform(content), RATE, "FLOAT", format="WAV")
        return decode("audio", file.getvalue()).tensor
    return decode("image", save_picture(content, "PNG")).tensor


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
    assert sum(path.stat().st_size for path in FILES) < 3 * 2**20


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_decoded_like_its_original(path: Path) -> None:
    modality, content, name = parts(path)
    data = path.read_bytes()
    sample = decode(sniff(data[:8192]) or "", data)
    assert sample.modality == modality
    other = "b" if content == "a" else "a"
    if modality == "point" and name not in SAMPLED:
        expected = np.delete(points(content), np.s_[::7], 0) if name == "nan" else points(content)
        np.testing.assert_allclose(sample.tensor.numpy(), expected, rtol=0, atol=1e-5)
        return
    if modality == "point":
        assert distance(sample.tensor, points(content)) < 0.05
        assert distance(sample.tensor, points(other)) > 0.05
        return
    if modality == "video":
        # Compare the first frame of the first clip (middle crop) with the picture that this frame
        # shows.
        tensors = sample.tensor[1, :, 0], original("image", content), original("image", other)
    else:
        tensors = sample.tensor, original(modality, content), original(modality, other)
    bound = 0.98
    # The bounds of lossy formats are lower: sound codecs drop noise, and amr drops all frequencies
    # above 4 kHz.
    if name in LOSSY[modality]:
        bound = 0.5 if name == "amr" else 0.8 if modality == "audio" else 0.9
    assert similarity(tensors[0], tensors[1]) >= bound
    assert similarity(tensors[0], tensors[1]) > similarity(tensors[0], tensors[2])


def test_the_document_lists_what_is_tested() -> None:
    """`python -m tests.corpus` writes the document."""
    assert DOCUMENT.read_text() == document()
