"""Training encodes a picture once and stores the embedding. A changed picture is encoded again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model_ext.imagebind.dtype import zero_image
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.registry import preprocess
from model_ext.imagebind.subset import load_encoders
from model_ext.train.data import embeddings
from model_ext.train.data.crop import random_crop
from model_ext.train.data.embeddings import embed_pictures
from model_ext.train.data.examples import Picture
from model_ext.train.errors import TrainError
from tests.model_ext.train.conftest import FIXTURES

CPU = torch.device("cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    copies = []
    for name in ("img_a.jpg", "img_b.png"):
        shutil.copy(FIXTURES / "media" / name, tmp_path / name)
        copies.append(Picture(tmp_path / name))
    return copies


def test_as_serving_embeds_them(
    pictures: list[Picture], encoders_folder: Path, tmp_path: Path
) -> None:
    vectors = embed_pictures(pictures, encoders_folder, tmp_path / "cache", 1, 0, 0, CPU)
    model = ImageBind.from_folder(encoders_folder)
    for row, picture in enumerate(pictures):
        expected = model.unit("vision", preprocess("image", picture.read())[None])
        torch.testing.assert_close(torch.from_numpy(vectors[row].copy()), expected)


def test_the_second_time_no_encoder_is_needed(
    pictures: list[Picture],
    encoders_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = embed_pictures(pictures, encoders_folder, tmp_path / "cache", 3, 0, 0, CPU)
    assert first.shape == (2, 3, 40)
    monkeypatch.delattr(embeddings, "ImageBind")
    again = embed_pictures(pictures, encoders_folder, tmp_path / "cache", 3, 0, 0, CPU)
    assert np.array_equal(first, again)
    os.utime(pictures[0].path, (1, 1))  # changes the modification time of the file
    with pytest.raises(NameError):
        embed_pictures(pictures, encoders_folder, tmp_path / "cache", 3, 0, 0, CPU)


def test_views_after_the_first_are_crops(encoders_folder: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 100, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    pictures = [Picture(tmp_path / "noise.png")] * 2
    one = embed_pictures(pictures, encoders_folder, tmp_path / "a", 1, 0, 0, CPU)
    three = embed_pictures(pictures, encoders_folder, tmp_path / "b", 3, 0, 2, CPU)
    np.testing.assert_allclose(three[:, :1], one, atol=1e-6)
    assert not np.array_equal(three[:, 1], three[:, 2])
    np.testing.assert_allclose(np.linalg.norm(three, axis=2), 1, atol=1e-5)


def test_crops_keep_most_of_the_picture() -> None:
    """A random crop has 90% to 100% of the picture's area. A gradient shows the crop's size."""
    ramp = np.tile(np.linspace(0, 255, 200, dtype=np.uint8), (200, 1))
    image = Image.fromarray(np.stack([ramp, ramp.T, ramp], axis=2))
    rng = np.random.default_rng(0)
    for _ in range(20):
        crop = random_crop(image, 64, rng).float()
        assert crop.shape == (3, 64, 64)
        wide = (crop[0].amax() - crop[0].amin()) / 255
        high = (crop[1].amax() - crop[1].amin()) / 255
        assert 0.84 < wide * high <= 1.0


def test_text_only_sees_a_picture_of_the_mean_color(encoders_folder: Path) -> None:
    model = ImageBind.from_folder(encoders_folder)
    expected = model.unit("vision", torch.zeros(1, 3, 224, 224))[0]
    torch.testing.assert_close(zero_image(load_encoders(encoders_folder, ["vision"])), expected)


def test_a_damaged_picture_is_named(encoders_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(TrainError, match=r"bad\.png"):
        embed_pictures([Picture(tmp_path / "bad.png")], encoders_folder, tmp_path, 1, 0, 0, CPU)


def test_stored_embeddings_are_used_beside_pictures(
    pictures: list[Picture], encoders_folder: Path, tmp_path: Path
) -> None:
    stored = np.random.default_rng(0).standard_normal((2, 40))
    np.save(tmp_path / "stored.npy", stored)
    mixed = [pictures[0], Picture(tmp_path / "stored.npy"), pictures[1]]
    vectors = embed_pictures(mixed, encoders_folder, tmp_path / "cache", 3, 0, 0, CPU)
    alone = embed_pictures(pictures, encoders_folder, tmp_path / "alone", 3, 0, 0, CPU)
    np.testing.assert_allclose(vectors[::2, 0], alone[:, 0], atol=1e-6)
    unit = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[1], unit[[0, 1, 0]], atol=1e-6)


@pytest.mark.parametrize("shape", [(40,), (2, 39), (0, 40)])
def test_stored_embeddings_of_another_shape_are_rejected(
    shape: tuple[int, ...], encoders_folder: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "stored.npy", np.ones(shape))
    with pytest.raises(TrainError, match=r"stored\.npy: expected embeddings \(views, 40\)"):
        embed_pictures(
            [Picture(tmp_path / "stored.npy")], encoders_folder, tmp_path / "c", 1, 0, 0, CPU
        )
