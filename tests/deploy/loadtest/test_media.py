"""Files that the load test generates: the server's decoders accept them, and no two are equal."""

from pathlib import Path
from random import Random

import pytest
import torch

from deploy.loadtest.media import Media
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.registry import preprocess
from model_ext.imagebind.preprocess.sniff import sniff

ROOT = Path(__file__).parents[3]
KINDS = {"image": "image", "audio": "audio", "video": "video", "point_cloud": "point"}


@pytest.fixture(scope="module")
def config() -> PreprocessConfig:
    folder = ROOT / "model_ext" / "demo" / "encoders"
    return PreprocessConfig.of(ImageBindConfig.from_json((folder / "config.json").read_bytes()))


@pytest.fixture(scope="module")
def media() -> Media:
    return Media.make(0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_servers_decoders_read_the_files(
    kind: str, media: Media, config: PreprocessConfig
) -> None:
    data = media.distinct(kind, Random(1))
    assert sniff(data) == KINDS[kind]
    tensor = preprocess(KINDS[kind], data, config, Limits())
    assert torch.isfinite(tensor).all()
    assert tensor.std() > 0


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_distinct_bytes_decode_to_equal_tensors(
    kind: str, media: Media, config: PreprocessConfig
) -> None:
    one = media.same(kind, Random(3))
    other = media.distinct(kind, Random(3))
    assert one != other
    tensors = [preprocess(KINDS[kind], data, config, Limits()) for data in (one, other)]
    assert torch.equal(*tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_distinct_files_are_equal(kind: str, media: Media) -> None:
    rng = Random(2)
    assert len({media.distinct(kind, rng) for _ in range(200)}) == 200
    assert len({media.same(kind, rng) for _ in range(200)}) == len(media.files[kind])
