"""Decode depth maps and thermal pictures, from .npy files or pictures.

An .npy file of the encoder's shape is used unchanged. The released model has no loaders for these
modalities, so bindserve defines all other rules. ImageBind's input is disparity (the inverse of
depth) on a normalised scale. This module gives the nearest point the value 1, and points without a
measurement the value 0. Pictures of 8 bits are already relative, and are scaled to 0..1.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.image import DEEP, decode, middle_square, open_image
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.npy import MAGIC, read_npy
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Notes, ReadOptions

Map = NDArray[np.float32]

NOTHING_VALID = "the file has no valid values: all are zero or not finite numbers"


def read_depth(
    data: bytes,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode a depth map (depths in any unit, or a picture of 8 bits) to (1, S, S) float32."""
    del options  # no reading option applies to depth maps
    values, relative = _read(data, config.depth_size, limits, {} if notes is None else notes)
    if relative is None:
        return _tensor(values)
    if not relative:
        values = _disparity(values)
        if notes is not None:
            notes["disparity"] = True
    return _tensor(_square(values, config.depth_size, limits))


def read_thermal(
    data: bytes,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode a thermal picture to (1, S, S) float32. Raw temperatures are scaled to 0..1."""
    del options  # no reading option applies to thermal pictures
    values, relative = _read(data, config.thermal_size, limits, {} if notes is None else notes)
    if relative is None:
        return _tensor(values)
    if not relative:
        values = _scaled(values)
        if notes is not None:
            notes["scaled"] = True
    return _tensor(_square(values, config.thermal_size, limits))


def _read(data: bytes, size: int, limits: Limits, notes: Notes) -> tuple[Map, bool | None]:
    """Return the values, and whether they are relative. True: values (H, W) from 0 to 1. False:
    values (H, W) in any unit. None: values (1, S, S) in the encoder's shape, which are used
    unchanged.
    """
    if data.startswith(MAGIC):
        array = read_npy(data, limits.image_pixels)
        array = array.reshape(tuple(length for length in array.shape if length != 1))
        if array.ndim != 2:
            raise DecodeError(f"the .npy file must have the shape (H, W) or (1, {size}, {size})")
        if not array.size:
            raise DecodeError("the file has no values")
        return (array[None], None) if array.shape == (size, size) else (array, False)
    image = open_image(data, limits)
    if image.mode in DEEP:
        return np.asarray(decode(image, image.mode)).astype(np.float32), False
    if image.mode not in ("L", "1"):
        notes["converted_from"] = image.mode
    return np.asarray(decode(image, "L"), np.float32) / np.float32(255), True


def _scaled(values: Map) -> Map:
    """Scale the finite values to the range 0 to 1. Other values become 0. Raises DecodeError."""
    valid = np.isfinite(values)
    low = np.min(values, where=valid, initial=np.inf)
    high = np.max(values, where=valid, initial=-np.inf)
    if low > high or low == high == 0:
        raise DecodeError(NOTHING_VALID)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller rejects infinite values
        scaled: Map = (np.where(valid, values, low) - low) / max(high - low, np.float32(1e-12))
    return scaled


def _disparity(depth: Map) -> Map:
    """Convert depths to disparities: nearest depth / depth for positive depths, else 0. Raises
    DecodeError.
    """
    valid = np.isfinite(depth) & (depth > 0)
    nearest = np.min(depth, where=valid, initial=np.inf)
    if not np.isfinite(nearest):
        raise DecodeError(NOTHING_VALID)
    return np.divide(nearest, depth, where=valid, out=np.zeros_like(depth))


def _square(values: Map, size: int, limits: Limits) -> Map:
    square = middle_square(Image.fromarray(np.ascontiguousarray(values)), size, limits)
    return np.asarray(square, np.float32)[None]


def _tensor(array: Map) -> Tensor:
    if not np.isfinite(array).all():
        raise DecodeError("the file has values that are not finite numbers")
    # copied, because Pillow's arrays are read-only
    return torch.from_numpy(np.array(array, order="C"))
