"""The number of tokens computed from an encoder's sizes equals the number of tokens that the
encoder processes.
"""

import pytest
import torch
from torch import Tensor, nn

from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess import audio, clips
from model_ext.imagebind.work import (
    AUDIO_CLIPS,
    VIDEO_CLIPS,
    clip_tokens,
    max_samples,
    sample_shapes,
    sample_tokens,
)


def seen_tokens(model: ImageBind, modality: str, inputs: Tensor) -> int:
    """Return how many tokens the first block receives, for all samples together."""
    sizes: list[int] = []

    def record(_: nn.Module, args: tuple[Tensor, ...], __: Tensor) -> None:
        sizes.append(args[0].shape[0] * args[0].shape[1])

    block = model.encoder(modality).get_submodule("trunk.blocks.0")
    hook = block.register_forward_hook(record)
    model.unit(modality, inputs)
    hook.remove()
    return sizes[0]


def test_tokens_of_every_sample(tiny: ImageBind) -> None:
    shapes = sample_shapes(tiny.config)
    assert {modality for modality, _ in shapes} == set(tiny.modalities)
    for modality, shape in shapes:
        dtype = torch.int64 if modality == "text" else torch.float32
        inputs = torch.ones(1, *shape, dtype=dtype)
        assert sample_tokens(tiny.config, modality, shape) == seen_tokens(tiny, modality, inputs)


def test_tokens_of_imagebind_huge() -> None:
    config = ImageBindConfig.released()
    tokens = {modality: clip_tokens(config, modality) for modality in config.modalities}
    assert tokens == {
        **{"vision": 257, "text": 77, "audio": 229, "depth": 197},
        **{"thermal": 197, "imu": 251, "point": 513},
    }


@pytest.mark.parametrize(
    ("modality", "shape", "samples"),
    [("vision", (3, 224, 224), 32), ("vision", (15, 3, 2, 224, 224), 2), ("text", (77,), 106)],
)
def test_samples_of_a_batch(modality: str, shape: tuple[int, ...], samples: int) -> None:
    config = ImageBindConfig.released()
    assert max_samples(config, modality, shape, 32 * 257) == samples
    assert max_samples(config, modality, shape, 1) == 1


def test_clips_are_those_of_preprocessing() -> None:
    assert (AUDIO_CLIPS, VIDEO_CLIPS) == (audio.CLIPS, 3 * clips.CLIPS)
