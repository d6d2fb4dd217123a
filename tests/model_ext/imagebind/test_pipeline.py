"""Preprocessing and encoding of a file give the embedding of the released code."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.registry import preprocess
from tests.model_ext.imagebind.conftest import ENCODER_ERROR, FIXTURES

INDEX = json.loads((FIXTURES / "golden/index.json").read_text())
MODALITY = {"img": "image", "video": "video", "audio": "audio", "points": "point"}
FILES = {name: MODALITY[name.split("_")[0]] for name in INDEX["embeddings"]["keys"] if "." in name}


@pytest.fixture
def config(tiny: ImageBind) -> PreprocessConfig:
    return PreprocessConfig.of(tiny.config)


def test_the_files_are_all_there() -> None:
    assert len(FILES) == 10
    assert all(ENCODER_OF[FILES[name]] == INDEX["embeddings"]["keys"][name] for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_file_to_embedding(
    name: str,
    media: Path,
    tiny: ImageBind,
    config: PreprocessConfig,
    golden_embeddings: dict[str, Tensor],
) -> None:
    modality = FILES[name]
    data = (media / name).read_bytes()
    inputs = preprocess(modality, data, config, Limits(torch_clouds=True))[None]
    encoder = ENCODER_OF[modality]
    prenorm, post = tiny.prenorm(encoder, inputs), tiny.embed(encoder, inputs)
    golden = golden_embeddings[f"{name}/post"]
    expected = golden_embeddings[f"{name}/prenorm"]
    bound = ENCODER_ERROR * expected.abs().max().item()
    torch.testing.assert_close(prenorm, expected, rtol=0, atol=bound)
    scale = tiny.encoder(encoder).post(torch.ones(1, 40)).norm().item()
    torch.testing.assert_close(post, golden, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("name", ["audio_a.wav", "audio_b.wav", "audio_c.flac"])
def test_each_clip(
    name: str,
    media: Path,
    tiny: ImageBind,
    config: PreprocessConfig,
    golden_embeddings: dict[str, Tensor],
) -> None:
    clips = preprocess("audio", (media / name).read_bytes(), config)
    prenorm, post = tiny.prenorm("audio", clips), tiny.embed("audio", clips)
    expected = golden_embeddings[f"{name}/clips_prenorm"]
    bound = ENCODER_ERROR * expected.abs().max().item()
    torch.testing.assert_close(prenorm, expected, rtol=0, atol=bound)
    expected = golden_embeddings[f"{name}/clips_post"]
    torch.testing.assert_close(post, expected, rtol=0, atol=1e-4 * 20)
