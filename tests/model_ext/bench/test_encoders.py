"""The benchmark of the encoders measures what it says it measures, on small ones."""

import pytest
import torch

from model_ext.bench.encoders import SHAPES, compare, config, load, tokens_of, trace
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
    sizes, released = config(blocks=2), ImageBindConfig.released()
    for modality in sizes.modalities:
        ours, theirs = getattr(sizes, modality), getattr(released, modality)
        assert (ours.width, ours.heads) == (theirs.width, theirs.heads)


def test_every_product_is_counted_once(model: ImageBind) -> None:
    """Two blocks of four maps, then the head, of three clips of 229 tokens."""
    products = trace(model, "audio", torch.randn(1, *SHAPES["audio"]))
    shapes = [(product.rows, *product.weight.shape) for product in products]
    block = [(687, 48, 16), (687, 16, 16), (687, 64, 16), (687, 16, 64)]
    assert shapes == [*block, *block, (3, 8, 16)]
    assert products[0].weight.data_ptr() == (
        model.audio.trunk.blocks[0].attention.qkv_proj.weight.data_ptr()
    )


def test_pointwise_convolutions_are_products(model: ImageBind) -> None:
    products = trace(model, "point", torch.randn(1, *SHAPES["point"]))
    rows = 512 * 32  # every point of every group
    assert (products[0].rows, *products[0].weight.shape) == (rows, 4, 3)


@pytest.mark.parametrize("modality", SMALL.modalities)
def test_an_outcome(model: ImageBind, modality: str) -> None:
    outcome = compare(model, modality, clients=2, pairs=2)
    assert outcome.apart <= 1e-5
    assert outcome.share.pairs == 2
    assert outcome.speedup.median > 0
    assert f"{modality}: {outcome.tokens} tokens" in str(outcome)


def test_a_batch_that_gives_other_vectors_is_no_outcome(
    model: ImageBind, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = model.unit
    monkeypatch.setattr(model, "unit", lambda m, x: unit(m, x) + (len(x) > 1) * 1e-3)
    with pytest.raises(RuntimeError, match="vision: the batch gives other vectors"):
        compare(model, "vision", clients=2, pairs=2)
