import pytest

from model_ext.imagebind.names import TO_OURS, TO_RELEASED, to_ours, to_released


def test_every_released_name_is_known(released_layout: dict[str, tuple[int, ...]]) -> None:
    assert len(released_layout) == 1476
    dropped = {name for name in released_layout if to_ours(name) is None}
    assert dropped == {
        "modality_preprocessors.text.mask",
        "point_trunk.point_encoder.encoder.first_conv.1.num_batches_tracked",
        "point_trunk.point_encoder.encoder.second_conv.1.num_batches_tracked",
    }


def test_reverse_map_brings_every_kept_name_back(
    released_layout: dict[str, tuple[int, ...]],
) -> None:
    kept = {name: ours for name in released_layout if (ours := to_ours(name)) is not None}
    assert {to_released(ours) for ours in kept.values()} == kept.keys()


def test_table_is_one_to_one() -> None:
    kept = [ours for ours in TO_OURS.values() if ours is not None]
    assert len(kept) == len(set(kept)) == len(TO_RELEASED)
    assert not any(mark in name for name in (*TO_OURS, *kept) for mark in ("{}", ","))


@pytest.mark.parametrize(
    "name",
    [
        "modality_trunks.vision.blocks.0.attn.q_proj.weight",
        "modality_trunks.vision.blocks.x.norm_1.weight",
        "modality_trunks.sound.blocks.0.norm_1.weight",
        "modality_trunks.vision.blocks.{i}.norm_1.weight.",
        "point_trunk.point_encoder.blocks.0.norm1.weight",
        "",
    ],
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(KeyError):
        to_ours(name)


def test_block_numbers_survive() -> None:
    released = "modality_trunks.imu.blocks.11.attn.in_proj_bias"
    assert to_ours(released) == "imu.trunk.blocks.11.attention.qkv_proj.bias"
    assert to_released("imu.trunk.blocks.11.attention.qkv_proj.bias") == released
