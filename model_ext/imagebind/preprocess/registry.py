"""The entry point: decode bytes of any attachment modality into its encoder's input."""

from typing import Protocol, TypeVar

from torch import Tensor

from model_ext.imagebind.preprocess.arrays import read_depth, read_thermal
from model_ext.imagebind.preprocess.audio import read_audio
from model_ext.imagebind.preprocess.av_file import has_pictures
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.container import VIDEO, container
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.image import read_image
from model_ext.imagebind.preprocess.imu import read_imu
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Notes, ReadOptions
from model_ext.imagebind.preprocess.points import read_points
from model_ext.imagebind.preprocess.sample import Sample
from model_ext.imagebind.preprocess.source import Source, head_of, size_of, whole
from model_ext.imagebind.preprocess.text import read_text
from model_ext.imagebind.preprocess.video import read_video

Content = TypeVar("Content", contravariant=True)


class Reader(Protocol[Content]):
    def __call__(
        self,
        content: Content,
        config: PreprocessConfig,
        limits: Limits,
        options: ReadOptions = ...,
        notes: Notes | None = ...,
        /,
    ) -> Tensor: ...


# Readers of files that can be large. They read only the parts that they need.
SOURCE_READERS: dict[str, Reader[Source]] = {"video": read_video, "audio": read_audio}
READERS: dict[str, Reader[bytes]] = {
    **SOURCE_READERS,
    "image": read_image,
    "text": read_text,
    "point": read_points,
    "depth": read_depth,
    "thermal": read_thermal,
    "imu": read_imu,
}


def decode(
    modality: str,
    source: Source,
    config: PreprocessConfig | None = None,
    limits: Limits | None = None,
    options: ReadOptions | None = None,
) -> Sample:
    """Decode a file. Raises as `preprocess` does."""
    notes: Notes = {}
    limits = limits or Limits()
    check_size(modality, source, limits)  # `actual_modality` may open the file
    modality = actual_modality(modality, source)
    check_size(modality, source, limits)
    settings = config or PreprocessConfig(), limits, options or ReadOptions(), notes
    if modality in SOURCE_READERS:
        tensor = SOURCE_READERS[modality](source, *settings)
    else:
        tensor = READERS[modality](whole(source), *settings)
    return Sample(modality, tensor, notes)


def preprocess(
    modality: str,
    source: Source,
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

    Raises DecodeError: when the bytes cannot be decoded, or are of another modality.
    KeyError: when there is no such modality.
    """
    sample = decode(modality, source, config, limits)
    if sample.modality != modality:
        raise DecodeError(f"the file has no pictures: it is of the modality {sample.modality}")
    return sample.tensor


def check_size(modality: str, source: Source, limits: Limits) -> None:
    max_bytes = limits.bytes_of(modality)
    # the file is a video whose sound track is read
    if modality == "audio" and container(head_of(source)) in VIDEO:
        max_bytes = max(max_bytes, limits.video_bytes)
    if size_of(source) > max_bytes:
        raise DecodeError(f"larger than the {max_bytes} bytes allowed ({modality})")


def actual_modality(modality: str, source: Source) -> str:
    """Return "audio" for a file that was sent as a video and has only sound, else `modality`."""
    if modality != "video" or (name := container(head_of(source))) is None:
        return modality
    if name not in VIDEO:
        return "audio"
    try:
        return "video" if has_pictures(source, name) else "audio"
    except DecodeError:
        return "video"  # PyAV failed, but decord may open the file
