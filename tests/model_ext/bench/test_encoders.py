"""The benchmark of the encoders, run on small encoders."""

import pytest
import torch

from model_ext.bench.encoders import (
    SHAPES,
    compare,
    config,
    flops_of,
    load,
    tokens_of,
    trace,
)
from model_ext.imagebind.config import AudioConfig, ImageBindConfig, PointConfig, VisionConfig
from model_ext.imagebind.model import ImageBind

SMALL = ImageBindConfig(
    embed_dim=8,
    vision=VisionConfig(width=16, blocks=2, heads=2),
    audio=AudioConfig(width=16, blocks=2, heads=2),
    point=PointConfig(width=12, blocks=2, heads=2, first_hidden=4, first_width=8, second_hidden=8),
)


@pytest.fixture(scope="module")
def model() -> ImageBind:
    return load(SMALL)


@pytest.mark.parametrize(("modality", "tokens"), [("vision", 257), ("audio", 229), ("point", 513)])
def test_the_released_token_counts(model: ImageBind, modality: str, tokens: int) -> None:
    assert tokens_of(model, modality) == tokens


def test_the_released_widths() -> None:
    released = ImageBindConfig.released()
    for sizes in (config(), config(blocks=2), config(blocks=2, encoder="audio")):
        for modality in sizes.modalities:
            section, full = getattr(sizes, modality), getattr(released, modality)
            assert (section.width, section.heads) == (full.width, full.heads)
    assert config().vision == released.vision
    assert config(encoder="audio").modalities == ("audio",)


def test_every_product_is_counted_once(model: ImageBind) -> None:
    """`trace` lists all matrix products for three clips: 4 in each of 2 blocks, 1 in the head."""
    products = trace(model, "audio", torch.randn(1, *SHAPES["audio"]))
    shapes = [(product.rows, *product.weight.shape) for product in products]
    block = [(687, 48, 16), (687, 16, 16), (687, 64, 16), (687, 16, 64)]
    assert shapes == [*block, *block, (3, 8, 16)]
    assert products[0].weight.data_ptr() == (
        model.audio.trunk.blocks[0].attention.qkv_proj.weight.data_ptr()
    )


def test_pointwise_convolutions_are_products(model: ImageBind) -> None:
    products = trace(model, "point", torch.randn(1, *SHAPES["point"]))
    rows = 512 * 32  # 512 groups of 32 points
    assert (products[0].rows, *products[0].weight.shape) == (rows, 4, 3)


@pytest.mark.parametrize("modality", SMALL.modalities)
def test_a_result(model: ImageBind, modality: str) -> None:
    result = compare(model, modality, clients=2, pairs=2)
    assert result.difference <= 1e-5
    assert result.share.pairs == 2
    assert result.speedup.median > 0
    assert result.files_per_s == pytest.approx(2 / result.batch_s)
    assert result.tflops == pytest.approx(result.flops * result.files_per_s / 1e12)
    assert f"{modality}: {result.tokens} tokens" in str(result)


def test_a_video_is_fifteen_crops(model: ImageBind) -> None:
    image = flops_of(model, "vision", torch.randn(1, *SHAPES["vision"]))
    video = flops_of(model, "vision", torch.randn(1, *SHAPES["video"]))
    assert video == pytest.approx(15 * image, rel=0.01)
    result = compare(model, "video", clients=8, pairs=2)
    assert (result.files, result.tokens) == (2, 257)


def test_operations_are_counted_by_hand(model: ImageBind) -> None:
    """The counted operations equal a calculation by hand, for the audio encoder."""
    products = trace(model, "audio", torch.randn(1, *SHAPES["audio"]))
    linear = sum(2 * product.rows * product.weight.numel() for product in products)
    # 3 clips x 2 blocks x 2 products x 2 operations x 229 queries x 230 keys x width 16
    attention = 3 * 2 * 2 * 2 * 229 * 230 * 16
    stem = 3 * 228 * 2 * 16 * 16 * 16
    total = flops_of(model, "audio", torch.randn(1, *SHAPES["audio"]))
    assert total == pytest.approx(linear + attention + stem, rel=0.02)


def test_the_vectors_of_bfloat16_are_compared_more_loosely() -> None:
    half = load(SMALL, dtype=torch.bfloat16)
    assert compare(half, "audio", clients=2, pairs=2).difference <= 1e-2


def test_other_vectors_of_a_batch_are_an_error(
    model: ImageBind, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = model.unit
    monkeypatch.setattr(model, "unit", lambda m, x: unit(m, x) + (len(x) > 1) * 1e-3)
    with pytest.raises(RuntimeError, match="vision: the batch's vectors differ"):
        compare(model, "vision", clients=2, pairs=2)
