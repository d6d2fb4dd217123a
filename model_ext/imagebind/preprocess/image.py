"""Decode pictures with Pillow into normalised pixels (3, 224, 224).

As in the released model's preprocessing, EXIF rotation and alpha are ignored, and only the first
frame of an animation is used.
"""

import io
import warnings

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits

# The accepted formats. Pillow supports about 40.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))
STD = torch.tensor((0.26862954, 0.26130258, 0.27577711))

DAMAGED = "the image is damaged or not JPEG, PNG, WebP, GIF, BMP or TIFF"


def read_image(data: bytes, config: PreprocessConfig, limits: Limits) -> Tensor:
    """Decode a picture to normalised pixels (3, S, S), float32."""
    return normalize(pixels(data, config.image_size, limits))


def normalize(rgb: Tensor) -> Tensor:
    """Normalise 8-bit pixels (3, S, S) to float32."""
    return (rgb.float() / 255 - MEAN[:, None, None]) / STD[:, None, None]


def pixels(data: bytes, size: int, limits: Limits) -> Tensor:
    """Read the middle square of the picture, resized to (3, size, size) uint8."""
    image = open_image(data, limits)
    square = middle_square(decode(image, "RGB"), size, limits)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def open_image(data: bytes, limits: Limits) -> Image.Image:
    """Read the header, and check the declared size. Raises DecodeError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about unusual metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(limits) from None
    except Exception:
        raise DecodeError(DAMAGED) from None
    if image.width * image.height > limits.image_pixels:
        raise _too_large(limits)
    return image


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
    if size * longer > limits.image_pixels:  # resizing a thin line would make a huge picture
        raise DecodeError("the image is too long and narrow")
    width, height = (size, longer) if image.width <= image.height else (longer, size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    # Python's `round` rounds .5 to the even number.
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _too_large(limits: Limits) -> DecodeError:
    return DecodeError(f"the image has more than {limits.image_pixels} pixels")
