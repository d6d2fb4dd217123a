from dataclasses import replace

import pytest
import torch

from model_ext.imagebind.config import ENCODER_OF, ImageBindConfig
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.registry import READERS, preprocess


def test_every_attachment_modality_has_a_reader() -> None:
    assert READERS.keys() == ENCODER_OF.keys()


@pytest.mark.parametrize("modality", READERS)
def test_size_is_checked_before_anything_is_read(modality: str) -> None:
    limits = Limits(
        image_bytes=9, audio_bytes=9, video_bytes=9, cloud_bytes=9, array_bytes=9, text_bytes=9
    )
    with pytest.raises(DecodeError, match="larger than the 9 bytes allowed"):
        preprocess(modality, b"x" * 10, limits=limits)


@pytest.mark.parametrize("modality", sorted(READERS.keys() - {"text"}))
@pytest.mark.parametrize("data", [b"", b"x", b"\x00" * 64, b"hello " * 50])
def test_nonsense_is_a_decode_error(modality: str, data: bytes) -> None:
    with pytest.raises(DecodeError):
        preprocess(modality, data)


def test_text_takes_any_utf8() -> None:
    assert preprocess("text", b"").dtype == torch.int64


def test_unknown_modality_is_the_callers_mistake() -> None:
    with pytest.raises(KeyError):
        preprocess("smell", b"")


def test_sizes_come_from_the_model() -> None:
    assert PreprocessConfig.of(ImageBindConfig.released()) == PreprocessConfig()
    released = ImageBindConfig.released()
    assert released.vision is not None
    assert released.point is not None
    model = replace(
        released,
        vision=replace(released.vision, image_size=112, patch_size=16, frames=1),
        point=replace(released.point, group_size=8),
        audio=None,
    )
    config = PreprocessConfig.of(model)
    assert (config.image_size, config.frames, config.min_points) == (112, 1, 8)
    assert config.mel_bins == 128
