"""The encoders' sizes, one section per encoder. A section is None if the model lacks the encoder.

This module reads and writes `encoders/config.json`, and reads the sizes file of a released
checkpoint. It does not import torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from model_ext.errors import ConfigError
from model_ext.imagebind.sizes_file import translate

MODALITIES = ("vision", "text", "audio", "depth", "thermal", "imu", "point")

Dtype = Literal["float32", "bfloat16", "float16"]  # dtypes of the encoders' weights
DtypeSetting = Literal["auto", "float32", "bfloat16", "float16"]

# The GPU kernels are compiled for these numbers of points. Larger clouds do not fit into registers.
KERNEL_POINTS = (2_048, 8_192, 16_384)

# Modality of an attachment -> name of the encoder that encodes it.
ENCODER_OF = {
    "image": "vision",
    "video": "vision",
    "audio": "audio",
    "text": "text",
    "point": "point",
    "depth": "depth",
    "thermal": "thermal",
    "imu": "imu",
}


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """The sizes that the transformers of all modalities have."""

    width: int
    blocks: int
    heads: int
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if type(value) is not int or value < 1:
                raise ConfigError(f"{field.name} must be a positive integer, got {value!r}")
        _divides(self, "heads", "width")


def _divides(config: TrunkConfig, part: str, whole: str) -> None:
    if getattr(config, whole) % getattr(config, part):
        raise ConfigError(
            f"{part} ({getattr(config, part)}) must divide {whole} ({getattr(config, whole)})"
        )


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TrunkConfig):
    image_size: int = 224
    patch_size: int = 14
    frames: int = 2  # frames of a clip; a still image is repeated to this number
    channels: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        _divides(self, "patch_size", "image_size")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class TextConfig(TrunkConfig):
    vocab_size: int = 49408
    context_length: int = 77


@dataclass(frozen=True, kw_only=True)
class AudioConfig(TrunkConfig):
    mel_bins: int = 128
    target_length: int = 204  # number of spectrogram frames
    kernel_size: int = 16
    stride: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_size > min(self.mel_bins, self.target_length):
            raise ConfigError(f"kernel_size ({self.kernel_size}) is larger than the spectrogram")

    @property
    def grid(self) -> tuple[int, int]:
        """The numbers of (overlapping) patches along mel bins and frames."""
        rows, columns = self.mel_bins - self.kernel_size, self.target_length - self.kernel_size
        return rows // self.stride + 1, columns // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class MapConfig(TrunkConfig):
    """The sizes for depth and thermal inputs: images with one channel."""

    image_size: int = 224
    patch_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _divides(self, "patch_size", "image_size")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class ImuConfig(TrunkConfig):
    channels: int = 6  # x, y and z of the accelerometer and of the gyroscope
    steps: int = 2000
    kernel_size: int = 8  # number of time steps in one token

    def __post_init__(self) -> None:
        super().__post_init__()
        _divides(self, "kernel_size", "steps")


@dataclass(frozen=True, kw_only=True)
class PointConfig(TrunkConfig):
    groups: int = 512
    group_size: int = 32  # Number of points in a group; the minimum number of points of a cloud.
    # Clouds are resampled to this number of points; None: they are not resampled.
    points: int | None = None
    first_hidden: int = 128
    first_width: int = 256
    second_hidden: int = 512
    group_width: int = 256  # width of the feature of one group
    position_hidden: int = 128
    projection: int = 512  # width of the trunk's output


SECTIONS: dict[str, type[TrunkConfig]] = {
    "vision": VisionConfig,
    "text": TextConfig,
    "audio": AudioConfig,
    "depth": MapConfig,
    "thermal": MapConfig,
    "imu": ImuConfig,
    "point": PointConfig,
}


@dataclass(frozen=True, kw_only=True)
class ImageBindConfig:
    embed_dim: int = 1024
    vision: VisionConfig | None = None
    text: TextConfig | None = None
    audio: AudioConfig | None = None
    depth: MapConfig | None = None
    thermal: MapConfig | None = None
    imu: ImuConfig | None = None
    point: PointConfig | None = None

    def __post_init__(self) -> None:
        if type(self.embed_dim) is not int or self.embed_dim < 1:
            raise ConfigError(f"embed_dim must be a positive integer, got {self.embed_dim!r}")
        if not self.modalities:
            raise ConfigError(f"no modality; give at least one of {', '.join(MODALITIES)}")

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(name for name in MODALITIES if getattr(self, name) is not None)

    @classmethod
    def released(cls) -> Self:
        """The sizes of `imagebind_w3D.pth`, i.e. ImageBind-huge and the Point-Bind trunk."""
        return cls(
            vision=VisionConfig(width=1280, blocks=32, heads=16),
            text=TextConfig(width=1024, blocks=24, heads=16),
            audio=AudioConfig(width=768, blocks=12, heads=12),
            depth=MapConfig(width=384, blocks=12, heads=8),
            thermal=MapConfig(width=768, blocks=12, heads=12),
            imu=ImuConfig(width=512, blocks=6, heads=8),
            point=PointConfig(width=384, blocks=12, heads=6),
        )

    @classmethod
    def from_imagebind_config(cls, document: Mapping[str, Any]) -> Self:
        """Read the sizes file of a released checkpoint (or only its "imagebind" section).

        The file is necessary, because the numbers of heads and the sizes of groups cannot be
        derived from tensor shapes.
        """
        return cls._from_dict(translate(document))

    def to_json(self) -> str:
        return json.dumps(asdict(self, dict_factory=_without_none), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ConfigError("the encoders' configuration must be a JSON object")
        return cls._from_dict(document)

    @classmethod
    def _from_dict(cls, document: dict[str, Any]) -> Self:
        sizes: dict[str, Any] = {}
        for name, value in document.items():
            if name == "embed_dim":
                sizes[name] = value
            elif name in SECTIONS:
                sizes[name] = _section(name, value)
            else:
                raise ConfigError(f"unknown key {name!r} in the encoders' configuration")
        return cls(**sizes)


def _without_none(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if value is not None}


def _section(name: str, value: object) -> TrunkConfig:
    if not isinstance(value, dict):
        raise ConfigError(f"section {name!r} must be a JSON object")
    kind = SECTIONS[name]
    unknown = sorted(value.keys() - {field.name for field in fields(kind)})
    if unknown:
        raise ConfigError(f"unknown key in section {name!r}: {', '.join(unknown)}")
    missing = sorted({"width", "blocks", "heads"} - value.keys())
    if missing:
        raise ConfigError(f"missing key in section {name!r}: {', '.join(missing)}")
    try:
        return kind(**value)
    except ConfigError as error:
        raise ConfigError(f"section {name!r}: {error}") from None
