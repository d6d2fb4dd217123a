"""Decode depth maps and thermal pictures, from .npy files or pictures.

An .npy file of the encoder's shape is used unchanged. The released model has no loaders for these
modalities, so the other rules are bindserve's. ImageBind's input is disparity (the inverse of
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
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
        scaled = (values - low) / max(high - low, np.float32(1e-12))
        values = np.nan_to_num(scaled, nan=0, posinf=0, neginf=0)
        if notes is not None:
            notes["scaled"] = True
    return _tensor(_square(values, config.thermal_size, limits))


def _read(data: bytes, size: int, limits: Limits, notes: Notes) -> tuple[Map, bool | None]:
    """Return the values (H, W), and whether they are relative (0..1). Instead of a bool, None says
    that the values already have the encoder's shape (1, S, S) and are used unchanged.
    """
    if data.startswith(MAGIC):
        array = read_npy(data, limits.image_pixels)
        array = array.reshape(tuple(length for length in array.shape if length != 1))
        if array.ndim != 2:
            raise DecodeError(f"the .npy file must have the shape (H, W) or (1, {size}, {size})")
        return (array[None], None) if array.shape == (size, size) else (array, False)
    image = open_image(data, limits)
    if image.mode in DEEP:
        return np.asarray(decode(image, image.mode)).astype(np.float32), False
    if image.mode not in ("L", "1"):
        notes["converted_from"] = image.mode
    return np.asarray(decode(image, "L"), np.float32) / np.float32(255), True


def _disparity(depth: Map) -> Map:
    valid = np.isfinite(depth) & (depth > 0)
    inverse = np.divide(1, depth, where=valid, out=np.zeros_like(depth), dtype=np.float64)
    return (inverse / max(float(inverse.max(initial=0)), 1e-300)).astype(np.float32)


def _square(values: Map, size: int, limits: Limits) -> Map:
    if not values.size:
        raise DecodeError("the file has no values")
    square = middle_square(Image.fromarray(np.ascontiguousarray(values)), size, limits)
    return np.asarray(square, np.float32)[None]


def _tensor(array: Map) -> Tensor:
    if not np.isfinite(array).all():
        raise DecodeError("the file has values that are not finite numbers")
    return torch.from_numpy(np.array(array, order="C"))  # Pillow's arrays are read-only
