"""The entry point: decode bytes of any attachment modality into its encoder's input."""

from collections.abc import Callable

from torch import Tensor

from model_ext.imagebind.preprocess.arrays import read_depth, read_imu, read_thermal
from model_ext.imagebind.preprocess.audio import read_audio
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.image import read_image
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.points import read_points
from model_ext.imagebind.preprocess.text import read_text
from model_ext.imagebind.preprocess.video import read_video

READERS: dict[str, Callable[[bytes, PreprocessConfig, Limits], Tensor]] = {
    "image": read_image,
    "video": read_video,
    "audio": read_audio,
    "text": read_text,
    "point": read_points,
    "depth": read_depth,
    "thermal": read_thermal,
    "imu": read_imu,
}


def preprocess(
    modality: str,
    data: bytes,
    config: PreprocessConfig | None = None,
    limits: Limits | None = None,
) -> Tensor:
    """Decode a sample, without batch axis. Defaults: the released sizes and the default limits.

    image    (3, 224, 224) float32
    video    (15, 3, 2, 224, 224) float32: 5 clips x 3 crops
    audio    (3, 1, 128, 204) float32: 3 clips
    text     (77,) int64
    point    (N, 3) float32
    depth    (1, 224, 224) float32
    thermal  (1, 224, 224) float32
    imu      (6, 2000) float32

    Raises DecodeError: when the bytes cannot be decoded. KeyError: when there is no such modality.
    """
    read = READERS[modality]
    limits = limits or Limits()
    if len(data) > limits.bytes_of(modality):
        raise DecodeError(f"larger than the {limits.bytes_of(modality)} bytes allowed ({modality})")
    return read(data, config or PreprocessConfig(), limits)
