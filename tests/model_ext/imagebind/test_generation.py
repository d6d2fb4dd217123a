"""`image_embedding`, the input of an image generator, equals recorded vectors of released code."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cache_index.build import import_index
from cache_index.enhance import CacheParams
from cache_index.index import CacheIndex
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.generation import Input, image_embedding
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.registry import preprocess
from tests.model_ext.imagebind.conftest import FIXTURES

GOLDENS = load_file(FIXTURES / "golden/image_embeds.safetensors")
INDEX = json.loads((FIXTURES / "golden/index.json").read_text())
MODALITY = {"img": "image", "audio": "audio", "points": "point", "text0": "text"}


def read(name: str, weight: float, model: ImageBind) -> Input:
    """Return the input for a file of the fixtures, or for a text."""
    modality = MODALITY[name.split("_")[0]]
    if modality == "text":
        data = INDEX["preprocess"]["text"]["texts"][0].encode()
    else:
        data = (FIXTURES / "media" / name).read_bytes()
    tensor = preprocess(modality, data, PreprocessConfig.of(model.config))[None]
    return Input(ENCODER_OF[modality], tensor, weight)


@pytest.mark.parametrize("key", GOLDENS)
def test_goldens(key: str, tiny: ImageBind, tmp_path: Path) -> None:
    combo, index = key.split("/")
    inputs = [read(name, weight, tiny) for name, weight in INDEX["visual"]["combos"][combo]]
    if index == "nocache":
        found = image_embedding(tiny, inputs)[0]
    else:
        import_index(FIXTURES / "tiny" / index, tmp_path / "cache", progress=False)
        cache = CacheIndex.open(tmp_path / "cache")
        found = image_embedding(tiny, inputs, lambda units: enhanced(cache, units))[0]
    torch.testing.assert_close(found, GOLDENS[key], rtol=0, atol=1e-5)


def enhanced(cache: CacheIndex, units: Tensor) -> Tensor:
    assert torch.allclose(units.norm(dim=-1), torch.ones(len(units)))
    vectors = cache.enhance(units.numpy(), [CacheParams()] * len(units)).vectors
    return torch.from_numpy(vectors)


def test_a_batch_is_each_alone_and_weights_are_shares(tiny: ImageBind) -> None:
    image = read("img_a.jpg", 3, tiny)
    noise = torch.randn(image.tensor.shape, generator=torch.Generator().manual_seed(0))
    both = Input("vision", torch.cat([image.tensor, noise]), 3)
    found = image_embedding(tiny, [both])
    expected = tiny.prenorm("vision", both.tensor)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
