"""Sizes of the encoders, one frozen section per modality; None means that the model lacks it.

Knows the numbers and how they are written down (`encoders/config.json`, and the sizes file that
may lie beside a released checkpoint). Does not know tensors or modules.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

MODALITIES = ("vision", "text", "audio", "depth", "thermal", "imu", "point")

# What a client attaches -> the encoder that takes it.
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


class ConfigError(ValueError):
    """A size is missing, unknown or impossible; the message names the key."""


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """What every transformer has."""

    width: int
    blocks: int
    heads: int
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
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
    frames: int = 2  # a still image is repeated to this many frames; one time step in all
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
    target_length: int = 204  # spectrogram frames
    kernel_size: int = 16
    stride: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel_size > min(self.mel_bins, self.target_length):
            raise ConfigError(f"kernel_size ({self.kernel_size}) is larger than the spectrogram")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along (mel bins, frames); they overlap."""
        rows, columns = self.mel_bins - self.kernel_size, self.target_length - self.kernel_size
        return rows // self.stride + 1, columns // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class MapConfig(TrunkConfig):
    """One-channel pictures: depth and thermal."""

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
    channels: int = 6  # accelerometer x, y, z and gyroscope x, y, z
    steps: int = 2000
    kernel_size: int = 8  # time steps in a piece

    def __post_init__(self) -> None:
        super().__post_init__()
        _divides(self, "kernel_size", "steps")


@dataclass(frozen=True, kw_only=True)
class PointConfig(TrunkConfig):
    groups: int = 512
    group_size: int = 32  # points in a group; a cloud needs at least as many
    first_hidden: int = 128
    first_width: int = 256
    second_hidden: int = 512
    group_width: int = 256  # width of a group's feature
    position_hidden: int = 128
    projection: int = 512  # width between trunk and head


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
            raise ConfigError(f"no modality at all; give at least one of {', '.join(MODALITIES)}")

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(name for name in MODALITIES if getattr(self, name) is not None)

    @classmethod
    def released(cls) -> Self:
        """The sizes of `imagebind_w3D.pth`: ImageBind-huge and the Point-Bind trunk."""
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
        """Read a sizes file (or only its "imagebind" section); needed where shapes do not tell."""
        return cls(**_read_sizes(document.get("imagebind", document)))

    def to_json(self) -> str:
        sections = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(sections, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ConfigError("the encoders' configuration must be a JSON object")
        sizes: dict[str, Any] = {}
        for name, value in document.items():
            if name == "embed_dim":
                sizes[name] = value
            elif name in SECTIONS:
                sizes[name] = _section(name, value)
            else:
                raise ConfigError(f"unknown key {name!r} in the encoders' configuration")
        return cls(**sizes)


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


class _Sizes:
    """A mapping that is read key by key, so that what nobody asked for can be named."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._left = dict(values)
        self._where = where

    def take(self, key: str) -> Any:
        if key not in self._left:
            raise ConfigError(f"{self._where} lacks {key!r}")
        return self._left.pop(key)

    def take_list(self, key: str, length: int) -> list[Any]:
        values = self.take(key)
        if not isinstance(values, list) or len(values) != length:
            raise ConfigError(f"{self._where}: {key!r} must be a list of {length} numbers")
        return values

    def trunk(self, modality: str) -> dict[str, Any]:
        return {
            "width": self.take(f"{modality}_embed_dim"),
            "blocks": self.take(f"{modality}_num_blocks"),
            "heads": self.take(f"{modality}_num_heads"),
        }

    def drop(self, *keys: str) -> None:
        for key in keys:
            self._left.pop(key, None)

    def finish(self) -> None:
        if self._left:
            raise ConfigError(f"{self._where} has unknown keys: {', '.join(sorted(self._left))}")


def _read_sizes(section: Mapping[str, Any]) -> dict[str, Any]:
    sizes = _Sizes(section, "the imagebind section")
    sizes.drop("audio_drop_path", "imu_drop_path")  # regularisation of the original training only
    ratio = {"mlp_ratio": sizes.take("mlp_ratio")}
    image_size = sizes.take("image_size")
    frames, patch, patch_width = sizes.take_list("kernel_size", 3)
    if patch != patch_width or frames != sizes.take("video_frames"):
        raise ConfigError("kernel_size must be [video_frames, patch, patch]")
    imu_channels, imu_steps = sizes.take_list("imu_img_size", 2)
    config = {
        "embed_dim": sizes.take("out_embed_dim"),
        "vision": VisionConfig(
            **sizes.trunk("vision"),
            **ratio,
            image_size=image_size,
            patch_size=patch,
            frames=frames,
        ),
        "text": TextConfig(
            **sizes.trunk("text"),
            **ratio,
            vocab_size=sizes.take("text_vocab_size"),
            context_length=sizes.take("text_context_length"),
        ),
        "audio": AudioConfig(
            **sizes.trunk("audio"),
            **ratio,
            mel_bins=sizes.take("audio_num_mel_bins"),
            target_length=sizes.take("audio_target_len"),
            kernel_size=sizes.take("audio_kernel_size"),
            stride=sizes.take("audio_stride"),
        ),
        **{
            name: MapConfig(
                **sizes.trunk(name),
                **ratio,
                image_size=image_size,
                patch_size=sizes.take(f"{name}_kernel_size"),
            )
            for name in ("depth", "thermal")
        },
        "imu": ImuConfig(
            **sizes.trunk("imu"),
            **ratio,
            channels=imu_channels,
            steps=imu_steps,
            kernel_size=sizes.take("imu_kernel_size"),
        ),
    }
    if "point" in section:
        config["point"] = _read_point_sizes(sizes.take("point"))
    sizes.finish()
    return config


def _read_point_sizes(section: Mapping[str, Any]) -> PointConfig:
    sizes = _Sizes(section, "the point section")
    sizes.drop("drop_path_rate", "cls_dim")  # training only; a classifier that is not in the file
    if sizes.take("qkv_bias"):
        raise ConfigError("point qkv_bias must be false: the released trunk has none")
    first_hidden, first_width = sizes.take_list("encoder_hidden", 2)
    config = PointConfig(
        width=sizes.take("trans_dim"),
        blocks=sizes.take("depth"),
        heads=sizes.take("num_heads"),
        mlp_ratio=sizes.take("mlp_ratio"),
        groups=sizes.take("num_group"),
        group_size=sizes.take("group_size"),
        first_hidden=first_hidden,
        first_width=first_width,
        second_hidden=sizes.take("encoder_hidden2"),
        group_width=sizes.take("encoder_dims"),
        position_hidden=sizes.take("pos_hidden"),
        projection=sizes.take("pc_embed_dim"),
    )
    sizes.finish()
    return config
