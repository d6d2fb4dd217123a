"""Decode pictures with Pillow into normalised pixels (3, 224, 224).

As in the released model's preprocessing, EXIF rotation (unless `ReadOptions.orient` is set) and
alpha are ignored, and only the first frame of an animation is used. libheif always applies the
rotation that a HEIC file contains.
"""

import io
import warnings

import numpy as np
import pi_heif
import torch
from PIL import Image
from torch import Tensor

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.kinds import unreadable
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Notes, ReadOptions
from model_ext.imagebind.preprocess.pictures import FORMATS, is_picture

MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))
STD = torch.tensor((0.26862954, 0.26130258, 0.27577711))

DAMAGED = "the image is damaged"
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes of more than 8 bits
TURN = Image.Transpose
# EXIF orientation -> how to turn the pixels
TRANSPOSE = {
    **{2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE},
    **{6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90},
}
ORIENTATION = 274  # Number of the EXIF tag; its value 1 means that the picture is upright.
BITS_PER_SAMPLE = 258  # Number of the TIFF tag for the bits per sample.

pi_heif.register_heif_opener(decode_threads=1)


def read_image(
    data: bytes,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode a picture to normalised pixels (3, S, S), float32."""
    return normalize(pixels(data, config.image_size, limits, options, notes))


def normalize(rgb: Tensor) -> Tensor:
    """Normalise 8-bit pixels (3, S, S) or (B, 3, S, S) to float32."""
    mean, deviation = (each.to(rgb.device)[:, None, None] for each in (MEAN, STD))
    return (rgb.float() / 255 - mean) / deviation


def pixels(
    data: bytes,
    size: int,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Read the middle square of the picture, resized to (3, size, size) uint8."""
    notes = {} if notes is None else notes
    image = open_image(data, limits)
    notes["format"] = image.format or ""
    square = middle_square(turned_rgb(image, options, notes), size, limits)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def open_image(data: bytes, limits: Limits) -> Image.Image:
    """Read the header, and check the declared size. Raises DecodeError."""
    name = is_picture(data)
    if name is None:
        raise unreadable("image", data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about unusual metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS[name])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(limits) from None
    except Exception:
        raise DecodeError(DAMAGED) from None
    if image.width * image.height > limits.image_pixels:
        raise _too_large(limits)
    return image


def turned_rgb(image: Image.Image, options: ReadOptions, notes: Notes) -> Image.Image:
    """Read the pixels as 8-bit RGB, rotated as `options` says. Raises DecodeError."""
    rgb = decode(image, "RGB") if image.mode not in DEEP else _to_8_bits(image, notes)
    return _upright(image, rgb, options, notes)


def _to_8_bits(image: Image.Image, notes: Notes) -> Image.Image:
    """Scale a one-channel picture of more than 8 bits by its bit depth. Floating-point values are
    divided by the largest value if it is above 1.
    """
    values = np.asarray(decode(image, image.mode), np.float64)
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
        full = max(1.0, float(values.max(initial=0)))
    else:
        # TIFF files declare the number of bits. Other formats use all 16 bits.
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(BITS_PER_SAMPLE, (16,))
        full = 2.0 ** int(bits[0] if isinstance(bits, tuple) else bits) - 1
    notes["scaled_from"] = full
    grey = np.clip(values * (255 / full), 0, 255).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _upright(
    image: Image.Image, pixels: Image.Image, options: ReadOptions, notes: Notes
) -> Image.Image:
    """Rotate the picture by its EXIF orientation, if the option `orient` is set."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises exceptions of many types for damaged metadata
        return pixels
    if orientation not in TRANSPOSE:
        return pixels
    notes["orientation"], notes["turned"] = orientation, options.orient
    return pixels.transpose(TRANSPOSE[orientation]) if options.orient else pixels


def decode(image: Image.Image, mode: str) -> Image.Image:
    """Read the pixels and convert them to a mode. Raises DecodeError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns that transparency is dropped
            image.load()
            return image.convert(mode)
    except Exception:  # Pillow's decoders raise many types, among them SyntaxError
        raise DecodeError(DAMAGED) from None


def middle_square(image: Image.Image, size: int, limits: Limits) -> Image.Image:
    """Resize the shorter side to `size` (bicubic, antialiased), then cut out the middle square."""
    short, long = sorted(image.size)
    longer = int(size * long / short)
    # resizing the shorter side of a thin line would make a huge picture
    if size * longer > limits.image_pixels:
        raise DecodeError("the image is too long and narrow")
    width, height = (size, longer) if image.width <= image.height else (longer, size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    # Like the released code, use Python's `round`, which rounds .5 to the even number.
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _too_large(limits: Limits) -> DecodeError:
    return DecodeError(f"the image has more than {limits.image_pixels} pixels")
