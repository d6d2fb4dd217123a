import json
from dataclasses import replace
from typing import Any

import pytest

from model_ext.errors import ConfigError
from model_ext.imagebind.config import (
    ENCODER_OF,
    MODALITIES,
    ImageBindConfig,
    VisionConfig,
)
from tests.model_ext.imagebind.conftest import FIXTURES


@pytest.fixture
def section() -> dict[str, Any]:
    document = json.loads((FIXTURES / "tiny/imagebind_config.json").read_text())
    sizes: dict[str, Any] = document["imagebind"]
    return sizes


def test_json_round_trip_keeps_every_size() -> None:
    for config in (ImageBindConfig.released(), replace(ImageBindConfig.released(), point=None)):
        assert ImageBindConfig.from_json(config.to_json()) == config


def test_absent_modality_is_not_written() -> None:
    config = ImageBindConfig(embed_dim=8, vision=VisionConfig(width=8, blocks=1, heads=2))
    assert config.modalities == ("vision",)
    assert set(json.loads(config.to_json())) == {"embed_dim", "vision"}


def test_sizes_file_is_read_whole_or_as_its_section(section: dict[str, Any]) -> None:
    whole = ImageBindConfig.from_imagebind_config({"imagebind": section, "bind": {"dim": 128}})
    assert whole == ImageBindConfig.from_imagebind_config(section)
    assert whole.embed_dim == 40
    assert whole.modalities == MODALITIES
    assert whole.point is not None
    assert (whole.point.groups, whole.point.group_size, whole.point.heads) == (64, 16, 3)


def test_sizes_file_without_point_has_no_point_modality(section: dict[str, Any]) -> None:
    del section["point"]
    assert ImageBindConfig.from_imagebind_config(section).point is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vision_embed_dims": 3}, "vision_embed_dims"),
        ({"vision_num_heads": 5}, "heads"),
        ({"kernel_size": [2, 14, 15]}, "kernel_size"),
        ({"kernel_size": 14}, "kernel_size"),
        ({"video_frames": 4}, "kernel_size"),
        ({"image_size": 225}, "image_size"),
        ({"imu_img_size": [6, 2001]}, "steps"),
        ({"text_vocab_size": "many"}, "vocab_size"),
        ({"audio_kernel_size": 129}, "kernel_size"),
    ],
)
def test_impossible_or_unknown_sizes_are_named(
    section: dict[str, Any], change: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        ImageBindConfig.from_imagebind_config({**section, **change})


def test_missing_and_unknown_keys_are_named(section: dict[str, Any]) -> None:
    for key in section.keys() - {"point", "audio_drop_path", "imu_drop_path"}:
        with pytest.raises(ConfigError, match=f"lacks '{key}'"):
            ImageBindConfig.from_imagebind_config({k: v for k, v in section.items() if k != key})
    for change, named in (({"num_groups": 3}, "num_groups"), ({"qkv_bias": True}, "qkv_bias")):
        point = {**section["point"], **change}
        with pytest.raises(ConfigError, match=named):
            ImageBindConfig.from_imagebind_config({**section, "point": point})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", "JSON object"),
        ('{"vision": 3}', "vision"),
        ('{"sound": {}}', "sound"),
        ('{"vision": {"width": 8, "blocks": 1, "heads": 2, "depth": 3}}', "depth"),
        ('{"vision": {"width": 8, "blocks": 1}}', "heads"),
        ('{"vision": {"width": 8, "blocks": 0, "heads": 2}}', "blocks"),
        ('{"vision": {"width": 8, "blocks": true, "heads": 2}}', "blocks"),
        ('{"embed_dim": 8}', "no modality"),
        ('{"embed_dim": 0.5, "vision": {"width": 8, "blocks": 1, "heads": 2}}', "embed_dim"),
    ],
)
def test_own_format_refuses_what_it_does_not_know(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ImageBindConfig.from_json(text)


def test_every_attachment_modality_has_an_encoder() -> None:
    assert set(ENCODER_OF.values()) == set(MODALITIES)
    assert ENCODER_OF["image"] == ENCODER_OF["video"] == "vision"


def test_released_grids() -> None:
    config = ImageBindConfig.released()
    assert config.vision is not None
    assert config.audio is not None
    assert config.depth is not None
    assert (config.vision.grid, config.audio.grid, config.depth.grid) == (16, (12, 19), 14)
