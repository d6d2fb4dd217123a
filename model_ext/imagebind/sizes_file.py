"""Translate the sizes file of a released checkpoint to the sections of `config.json`.

This module translates names key by key; `config.py` validates the sizes.
"""

from collections.abc import Mapping
from typing import Any

from model_ext.errors import ConfigError


class Section:
    """A mapping from which a caller takes one key after the other. `finish` rejects keys that have
    not been taken.
    """

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} must be a JSON object")
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

    def drop(self, *keys: str) -> None:
        for key in keys:
            self._left.pop(key, None)

    def finish(self) -> None:
        if self._left:
            raise ConfigError(f"{self._where} has unknown keys: {', '.join(sorted(self._left))}")


def translate(document: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the whole file, or only its "imagebind" section.

    Without a "point" section the model has no point modality.
    """
    source = document.get("imagebind", document)
    sizes = Section(source, "the imagebind section")
    sizes.drop("audio_drop_path", "imu_drop_path")  # settings of the original training only
    image_size, mlp_ratio = sizes.take("image_size"), sizes.take("mlp_ratio")
    frames, patch, patch_width = sizes.take_list("kernel_size", 3)
    if patch != patch_width or frames != sizes.take("video_frames"):
        raise ConfigError("kernel_size must be [video_frames, patch, patch]")
    imu_channels, imu_steps = sizes.take_list("imu_img_size", 2)
    own = {
        "vision": {"image_size": image_size, "patch_size": patch, "frames": frames},
        "text": {
            "vocab_size": sizes.take("text_vocab_size"),
            "context_length": sizes.take("text_context_length"),
        },
        "audio": {
            "mel_bins": sizes.take("audio_num_mel_bins"),
            "target_length": sizes.take("audio_target_len"),
            "kernel_size": sizes.take("audio_kernel_size"),
            "stride": sizes.take("audio_stride"),
        },
        "depth": {"image_size": image_size, "patch_size": sizes.take("depth_kernel_size")},
        "thermal": {"image_size": image_size, "patch_size": sizes.take("thermal_kernel_size")},
        "imu": {
            "channels": imu_channels,
            "steps": imu_steps,
            "kernel_size": sizes.take("imu_kernel_size"),
        },
    }
    for modality, section in own.items():
        section["width"] = sizes.take(f"{modality}_embed_dim")
        section["blocks"] = sizes.take(f"{modality}_num_blocks")
        section["heads"] = sizes.take(f"{modality}_num_heads")
        section["mlp_ratio"] = mlp_ratio
    point = {"point": _point(sizes.take("point"))} if "point" in source else {}
    embed_dim = sizes.take("out_embed_dim")
    sizes.finish()
    return {"embed_dim": embed_dim, **own, **point}


def _point(source: object) -> dict[str, Any]:
    sizes = Section(source, "the point section")
    sizes.drop("drop_path_rate", "cls_dim")  # settings of training only
    if sizes.take("qkv_bias"):
        raise ConfigError("point qkv_bias must be false: the released trunk has none")
    first_hidden, first_width = sizes.take_list("encoder_hidden", 2)
    own = {
        "width": sizes.take("trans_dim"),
        "blocks": sizes.take("depth"),
        "heads": sizes.take("num_heads"),
        "mlp_ratio": sizes.take("mlp_ratio"),
        "groups": sizes.take("num_group"),
        "group_size": sizes.take("group_size"),
        "first_hidden": first_hidden,
        "first_width": first_width,
        "second_hidden": sizes.take("encoder_hidden2"),
        "group_width": sizes.take("encoder_dims"),
        "position_hidden": sizes.take("pos_hidden"),
        "projection": sizes.take("pc_embed_dim"),
    }
    sizes.finish()
    return own
