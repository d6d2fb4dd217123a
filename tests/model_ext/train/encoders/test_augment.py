"""Random changes of training samples keep shapes and ranges, and are reproducible by a seed."""

import pytest
import torch

from model_ext.train.encoders import augment
from model_ext.train.encoders.batches import generator
from model_ext.train.encoders.samples import PAD


@pytest.fixture
def stored() -> torch.Tensor:
    pictures = torch.zeros(8, 4, 32, 32, dtype=torch.uint8)
    pictures[:, 0, 8:24, 8:24] = 255
    pictures[:, 3, 8:24, 8:24] = 255
    return pictures


def test_pictures_are_clips_and_differ(stored: torch.Tensor) -> None:
    clips = augment.pictures(stored, 48, 2, generator(0, 0))
    assert clips.shape == (8, 1, 3, 2, 48, 48)
    assert not torch.equal(clips[0], clips[1])
    again = augment.pictures(stored, 48, 2, generator(0, 0))
    assert torch.equal(clips, again)


def test_some_clips_move_and_others_stand_still(stored: torch.Tensor) -> None:
    clips = augment.pictures(stored.repeat(4, 1, 1, 1), 48, 2, generator(0, 0))
    still = [torch.equal(clip[0, :, 0], clip[0, :, 1]) for clip in clips]
    assert 0 < sum(still) < len(still)


def test_plain_pictures_are_as_serving_reads_them(stored: torch.Tensor) -> None:
    """`plain_pictures` does not change the white background and the red square of the picture."""
    clip = augment.plain_pictures(stored, 32, 2)[0, 0]
    rgb = clip[:, 0] * augment.STD[:, None, None] + augment.MEAN[:, None, None]
    assert rgb[:, 2, 2].tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert rgb[:, 16, 16].tolist() == pytest.approx([1, 0, 0], abs=1e-5)


def test_sounds_keep_their_padding_and_their_place() -> None:
    stored = torch.full((16, 128, 204), PAD)
    stored[:, :, :60] = -1.2
    stored[:, 40, :60] = 1.0  # a tone in mel bin 40
    varied = augment.sounds(stored.half(), generator(0, 0))
    assert varied.shape == (16, 1, 1, 128, 204)
    sound = varied[:, 0, 0]
    loudest = torch.where(sound == PAD, -9.0, sound).amax(2)  # shape (B, mel)
    places = loudest[:, 10:].argmax(1) + 10
    assert ((places - 40).abs() < 12).float().mean() > 0.8
    assert (varied[:, 0, 0, :, -1] == PAD).all(1).any()


def test_clouds_have_the_number_of_points_and_stay_in_the_unit_sphere() -> None:
    stored = torch.randn(4, 100, 3)
    varied = augment.clouds(stored, 64, generator(0, 0))
    assert varied.shape == (4, 64, 3)
    assert varied.norm(dim=2).amax(1).tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    assert varied.mean(1).abs().max() < 1e-5


def test_rotation_keeps_distances() -> None:
    cloud = torch.randn(2, 10, 3)
    for axis in range(3):
        rotated = augment._rotate(cloud, axis, torch.tensor([[0.3], [1.0]]))
        torch.testing.assert_close(torch.cdist(rotated, rotated), torch.cdist(cloud, cloud))
        torch.testing.assert_close(rotated[..., axis], cloud[..., axis])
        assert not torch.allclose(rotated, cloud)
