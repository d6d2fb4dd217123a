import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.image import pixels, read_image
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Notes, ReadOptions
from tests.model_ext.imagebind.preprocess.broken import bits_flipped, cut_off

NAMES = ("img_a.jpg", "img_b.png")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(mode: str, width: int, height: int) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(values.squeeze(-1) if channels == 1 else values, mode=None).convert(mode)


@pytest.mark.parametrize("name", NAMES)
def test_released_pixels(
    name: str, media: Path, golden_inputs: dict[str, Tensor], config: PreprocessConfig
) -> None:
    data = (media / name).read_bytes()
    assert torch.equal(pixels(data, 224, Limits()), golden_inputs[f"{name}/u8"])
    image = read_image(data, config, Limits())
    assert image.dtype == torch.float32
    assert image.shape == (3, 224, 224)
    torch.testing.assert_close(image[:, ::7, ::7], golden_inputs[f"{name}/sub7"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("extra", "offset"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (7, 4)])
def test_middle_is_rounded_half_to_even(extra: int, offset: int) -> None:
    """If the shorter side of a picture already has the right size, the reader only cuts out the
    middle.
    """
    for wide in (True, False):
        size = (64 + extra, 64) if wide else (64, 64 + extra)
        image = noise("RGB", *size)
        corner = (offset, 0) if wide else (0, offset)
        expected = np.asarray(image.crop((*corner, corner[0] + 64, corner[1] + 64)))
        square = pixels(saved(image, "PNG"), 64, Limits())
        assert torch.equal(square, torch.from_numpy(expected.copy()).permute(2, 0, 1))


def test_longer_side_is_truncated_not_rounded() -> None:
    image = noise("RGB", 100, 33)  # the longer side becomes int(64 * 100 / 33) = 193
    resized = image.resize((193, 64), Image.Resampling.BICUBIC).crop((64, 0, 128, 64))
    square = pixels(saved(image, "PNG"), 64, Limits())
    assert torch.equal(square, torch.from_numpy(np.array(resized)).permute(2, 0, 1))


def test_alpha_is_dropped_not_composited() -> None:
    opaque = noise("RGB", 64, 64)
    transparent = opaque.copy()
    transparent.putalpha(0)
    squares = [pixels(saved(image, "PNG"), 64, Limits()) for image in (opaque, transparent)]
    assert torch.equal(*squares)


def test_grey_is_replicated() -> None:
    square = pixels(saved(noise("L", 70, 64), "PNG"), 64, Limits())
    assert torch.equal(square[0], square[1])
    assert torch.equal(square[0], square[2])


def test_exif_orientation_is_ignored() -> None:
    image = noise("RGB", 80, 64)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation 6: a quarter turn
    turned = pixels(saved(image, "PNG", exif=exif), 64, Limits())
    assert torch.equal(turned, pixels(saved(image, "PNG"), 64, Limits()))


def test_animation_is_its_first_frame() -> None:
    first, second = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    for kind in ("GIF", "PNG"):
        data = saved(first, kind, save_all=True, append_images=[second])
        assert pixels(data, 64, Limits())[:, 5, 5].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "1"),
        ("PNG", "P"),
        ("PNG", "LA"),
        ("PNG", "I;16"),
        ("JPEG", "CMYK"),
        ("JPEG", "L"),
        ("WEBP", "RGBA"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("TIFF", "RGB"),
    ],
)
def test_every_allowed_format_and_mode_is_read(kind: str, mode: str) -> None:
    image = Image.new(mode, (50, 40))
    config = PreprocessConfig(image_size=32)
    assert read_image(saved(image, kind), config, Limits()).shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("kind", "name"), [("EPS", "PostScript"), ("PDF", "PDF"), ("DDS", "unknown")]
)
def test_formats_off_the_list_are_refused(kind: str, name: str, config: PreprocessConfig) -> None:
    with pytest.raises(DecodeError, match=name):
        read_image(saved(Image.new("RGB", (50, 40)), kind), config, Limits())


def grey_ramp() -> NDArray[np.uint16]:
    return (np.arange(256, dtype=np.uint16) * 257)[None].repeat(256, 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_greyscale_is_scaled_and_not_clipped(kind: str) -> None:
    deep = saved(Image.fromarray(grey_ramp()), kind)
    shallow = saved(Image.fromarray((grey_ramp() >> 8).astype(np.uint8)), "PNG")
    assert torch.equal(pixels(deep, 64, Limits()), pixels(shallow, 64, Limits()))


@pytest.mark.parametrize("full", [1.0, 4000.0])
def test_floating_point_pictures_are_scaled(full: float) -> None:
    ramp = grey_ramp().astype(np.float32) / 65535 * full
    square = pixels(saved(Image.fromarray(ramp), "TIFF"), 64, Limits())
    shallow = saved(Image.fromarray((grey_ramp() >> 8).astype(np.uint8)), "PNG")
    assert torch.equal(square, pixels(shallow, 64, Limits()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_reported_and_applied_only_on_demand(orientation: int) -> None:
    image = noise("RGB", 48, 64)
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(image, "PNG", exif=exif)
    notes: Notes = {}
    as_stored = pixels(saved(image, "PNG"), 32, Limits())
    assert torch.equal(pixels(data, 32, Limits(), notes=notes), as_stored)
    assert notes.get("orientation", 1) == orientation
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    expected = pixels(saved(turned, "PNG"), 32, Limits())
    assert torch.equal(pixels(data, 32, Limits(), ReadOptions(orient=True)), expected)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file without pixels, whose header declares this size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    idat = b"IDAT" + zlib.compress(b"")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk
        + struct.pack(">I", len(idat) - 4)
        + idat
        + struct.pack(">I", zlib.crc32(idat))
    )


# Pillow itself accepts sides of 7072 and 9000, warns about 12000, and raises for 50000.
@pytest.mark.parametrize("side", [7072, 9_000, 12_000, 50_000])
def test_declared_pixels_are_checked_before_decoding(side: int, config: PreprocessConfig) -> None:
    with pytest.raises(DecodeError, match="more than 50000000 pixels"):
        read_image(png_header(side, side), config, Limits())


def test_a_line_of_pixels_does_not_become_a_huge_picture(config: PreprocessConfig) -> None:
    data = saved(Image.new("L", (60_000, 1)), "PNG")
    with pytest.raises(DecodeError, match="long and narrow"):
        read_image(data, config, Limits())
    assert read_image(saved(Image.new("L", (1, 1)), "PNG"), config, Limits()).shape[1:] == (
        224,
        224,
    )


@pytest.mark.parametrize("name", NAMES)
def test_cut_off_files_are_refused(name: str, media: Path, config: PreprocessConfig) -> None:
    for data in cut_off((media / name).read_bytes()):
        with pytest.raises(DecodeError, match="damaged"):
            read_image(data, config, Limits())


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits_give_a_picture_or_a_decode_error(name: str, media: Path) -> None:
    config = PreprocessConfig(image_size=32)
    for data in bits_flipped((media / name).read_bytes(), copies=40):
        try:
            image = read_image(data, config, Limits())
        except DecodeError as error:
            assert str(error).startswith("the image ")  # noqa: PT017
        else:
            assert image.shape == (3, 32, 32)
            assert image.isfinite().all()
