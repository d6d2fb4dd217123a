"""Decode depth, thermal and IMU data from .npy files, depth and thermal data from pictures, and IMU
data from CSV.

An .npy file has the shape of the encoder's input. The released model has no loaders for these
modalities and does not document the range of values. The values of an .npy are used unchanged.
Pictures of depth or temperature are scaled to 0..1.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.image import decode, middle_square, open_image
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.npy import MAGIC, read_npy

IMU_FORMATS = (
    "an IMU file is an .npy file of shape (6, 2000), or CSV with a header line and 6 numbers in "
    "each further line"
)
# Mode of a Pillow picture -> the pixel value that is scaled to 1.0
WHITE = {"L": 255, "I;16": 65535, "I;16B": 65535, "F": 1}


def read_depth(data: bytes, config: PreprocessConfig, limits: Limits) -> Tensor:
    """Decode a depth map to (1, S, S) float32."""
    return _read_map(data, config.depth_size, limits)


def read_thermal(data: bytes, config: PreprocessConfig, limits: Limits) -> Tensor:
    """Decode a thermal picture to (1, S, S) float32."""
    return _read_map(data, config.thermal_size, limits)


def read_imu(data: bytes, config: PreprocessConfig, limits: Limits) -> Tensor:
    """Decode accelerometer and gyroscope values to (6, steps) float32."""
    del limits  # no limits are needed, because the shape of IMU data is fixed
    shape = (config.imu_channels, config.imu_steps)
    return _read_array(data, shape) if data.startswith(MAGIC) else _read_table(data, *shape)


def _read_map(data: bytes, size: int, limits: Limits) -> Tensor:
    if data.startswith(MAGIC):
        return _read_array(data, (1, size, size))
    return _finite(_read_picture(data, size, limits)[None])


def _read_array(data: bytes, shape: tuple[int, ...]) -> Tensor:
    array = read_npy(data, int(np.prod(shape)))
    expected = tuple(size for size in shape if size != 1)
    if tuple(size for size in array.shape if size != 1) != expected:
        raise DecodeError(f"the .npy file must have the shape {shape}")
    return _finite(array.reshape(shape))


def _read_table(data: bytes, channels: int, steps: int) -> Tensor:
    """Read CSV with a header line and one row per time step: (channels, steps).

    Cuts more rows than `steps`, and pads fewer rows with zeros at the end.
    """
    try:
        lines = data.decode().splitlines()[1 : steps + 1]
        rows = np.array([line.split(",") for line in lines if line.strip()], np.float32)
    except ValueError:  # also for rows of different lengths, and bytes that are no text
        raise DecodeError(IMU_FORMATS) from None
    if rows.ndim != 2 or rows.shape[1] != channels:
        raise DecodeError(IMU_FORMATS)
    padded = np.zeros((channels, steps), np.float32)
    padded[:, : len(rows)] = rows.T
    return _finite(padded)


def _read_picture(data: bytes, size: int, limits: Limits) -> NDArray[np.float32]:
    image = open_image(data, limits)
    if image.mode == "RGB":
        image = _one_channel(decode(image, "RGB"))
    white = WHITE.get(image.mode)
    if white is None:
        raise DecodeError(
            "a picture of depth or temperature must have one channel (8 or 16 bits, or float)"
        )
    values = np.asarray(decode(image, image.mode), dtype=np.float32) / np.float32(white)
    return np.asarray(middle_square(Image.fromarray(values), size, limits), dtype=np.float32)


def _one_channel(image: Image.Image) -> Image.Image:
    """Take the first channel of a picture with three equal channels, as many programs save maps."""
    channels = np.asarray(image)
    if (channels == channels[..., :1]).all():
        return Image.fromarray(channels[..., 0])
    return image


def _finite(array: NDArray[np.float32]) -> Tensor:
    if not np.isfinite(array).all():
        raise DecodeError("the file has values that are not finite numbers")
    return torch.from_numpy(np.array(array, order="C"))  # Pillow's arrays are read-only
