import pytest
import torch
from torch.nn import functional as F

from model_ext.imagebind.config import AudioConfig, ImuConfig, TextConfig, VisionConfig
from model_ext.imagebind.stems import ImuStem, PictureStem, TextStem, VisionStem

VISION = VisionConfig(width=6, blocks=1, heads=1, image_size=12, patch_size=4, frames=2)


def test_vision_patches_equal_a_convolution() -> None:
    stem = VisionStem(VISION)
    clip = torch.randn(2, 3, 2, 12, 12)
    patches = F.conv3d(clip, stem.weight, stride=(2, 4, 4)).flatten(2).transpose(1, 2)
    expected = stem.with_class_token(patches, stem.positions)
    torch.testing.assert_close(stem(clip), expected, rtol=0, atol=1e-5)


def test_still_image_is_a_clip_of_equal_frames() -> None:
    stem = VisionStem(VISION)
    image = torch.randn(2, 3, 12, 12)
    assert torch.equal(stem(image), stem(torch.stack([image, image], dim=2)))


def test_resized_positions_leave_the_class_position_alone() -> None:
    stem = VisionStem(VISION)
    tokens = stem(torch.zeros(1, 3, 20, 20))
    assert tokens.shape == (1, 1 + 25, 6)
    assert torch.equal(tokens[:, 0], (stem.class_token + stem.positions[:, :1])[:, 0])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 12, 12), "3 channels"),
        ((1, 3, 3, 12, 12), "2 frames"),
        ((1, 3, 12, 16), "square images"),
        ((1, 3, 13, 13), "whole 4-pixel patches"),
    ],
)
def test_vision_refuses_other_shapes(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VisionStem(VISION)(torch.zeros(shape))


def test_imu_pieces_list_channel_after_channel() -> None:
    config = ImuConfig(width=6, blocks=1, heads=1, channels=2, steps=6, kernel_size=3)
    stem = ImuStem(config)
    torch.nn.init.eye_(stem.proj.weight)
    motion = torch.tensor([[[1.0, 2, 3, 4, 5, 6], [10, 20, 30, 40, 50, 60]]])
    piece = torch.tensor([4.0, 5, 6, 40, 50, 60])
    expected = F.layer_norm(piece, (6,), eps=1e-5) + stem.positions[0, 2]
    torch.testing.assert_close(stem(motion)[0, 2], expected)


def test_other_sizes_are_refused_with_both_shapes() -> None:
    audio = PictureStem.for_audio(AudioConfig(width=6, blocks=1, heads=1))
    with pytest.raises(ValueError, match=r"expected \(B, 1, 128, 204\), got \(1, 1, 128, 203\)"):
        audio(torch.zeros(1, 1, 128, 203))
    imu = ImuStem(ImuConfig(width=6, blocks=1, heads=1))
    with pytest.raises(ValueError, match=r"expected \(B, 6, 2000\), got \(1, 6, 200\)"):
        imu(torch.zeros(1, 6, 200))
    text = TextStem(TextConfig(width=6, blocks=1, heads=1, vocab_size=9, context_length=5))
    with pytest.raises(ValueError, match=r"expected \(B, 5\) ids, got \(1, 4\)"):
        text(torch.zeros(1, 4, dtype=torch.int64))
