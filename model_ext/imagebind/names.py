"""The table of tensor names: released ImageBind / Point-Bind checkpoint -> this package's modules.

A row with `{a,b}` on the left represents several rows, one for each word in the braces. The word
replaces the `{}` on the right. `{i}` is the number of a block. None: the tensor is dropped, because
it can be computed or is not used. The reverse mapping is computed from the table. The table
contains no shapes.
"""

import re
from collections.abc import Mapping
from itertools import product

_STEM = "modality_preprocessors."
_BLOCK = "modality_trunks.{vision,text,audio,depth,thermal,imu}.blocks.{i}."
_HEAD = "modality_heads."
_POINT = "point_trunk.point_encoder."

NAMES: dict[str, str | None] = {
    _STEM + "{vision,audio,depth,thermal,imu}.cls_token": "{}.stem.class_token",
    _STEM + "{vision,audio,depth,thermal}.pos_embedding_helper.pos_embed": "{}.stem.positions",
    _STEM + "{text,imu}.pos_embed": "{}.stem.positions",
    _STEM + "vision.rgbt_stem.proj.1.weight": "vision.stem.weight",
    _STEM + "{audio,thermal}.rgbt_stem.proj.weight": "{}.stem.proj.weight",
    _STEM + "{audio,thermal}.rgbt_stem.norm_layer.{weight,bias}": "{}.stem.norm.{}",
    _STEM + "depth.depth_stem.proj.weight": "depth.stem.proj.weight",
    _STEM + "depth.depth_stem.norm_layer.{weight,bias}": "depth.stem.norm.{}",
    _STEM + "imu.imu_stem.proj.weight": "imu.stem.proj.weight",
    _STEM + "imu.imu_stem.norm_layer.{weight,bias}": "imu.stem.norm.{}",
    _STEM + "text.token_embedding.weight": "text.stem.token_embedding.weight",
    _STEM + "text.mask": None,  # the causal mask, which this package computes instead
    "modality_trunks.vision.pre_transformer_layer.0.{weight,bias}": "vision.trunk.pre_norm.{}",
    _BLOCK + "norm_1.{weight,bias}": "{}.trunk.blocks.{i}.norm_1.{}",
    _BLOCK + "attn.in_proj_{weight,bias}": "{}.trunk.blocks.{i}.attention.qkv_proj.{}",
    _BLOCK + "attn.{bias_k,bias_v}": "{}.trunk.blocks.{i}.attention.{}",
    _BLOCK + "attn.out_proj.{weight,bias}": "{}.trunk.blocks.{i}.attention.out_proj.{}",
    _BLOCK + "norm_2.{weight,bias}": "{}.trunk.blocks.{i}.norm_2.{}",
    _BLOCK + "mlp.{fc1,fc2}.{weight,bias}": "{}.trunk.blocks.{i}.mlp.{}.{}",
    _HEAD + "{vision,audio,depth,thermal,imu,point}.0.{weight,bias}": "{}.head.norm.{}",
    _HEAD + "{vision,audio,depth,thermal,point}.2.weight": "{}.head.proj.weight",
    _HEAD + "imu.3.weight": "imu.head.proj.weight",  # the layer with index 2 is a dropout
    _HEAD + "text.proj.0.{weight,bias}": "text.head.norm.{}",
    _HEAD + "text.proj.1.weight": "text.head.proj.weight",
    "modality_postprocessors.{text,audio,depth,thermal,imu,point}.1.log_logit_scale": (
        "{}.post.log_logit_scale"
    ),
    _POINT + "encoder.first_conv.0.{weight,bias}": "point.trunk.groups.conv_1.{}",
    _POINT + "encoder.first_conv.1.{weight,bias}": "point.trunk.groups.norm_1.{}",
    _POINT + "encoder.first_conv.1.running_{mean,var}": "point.trunk.groups.norm_1.running_{}",
    _POINT + "encoder.first_conv.1.num_batches_tracked": None,
    _POINT + "encoder.first_conv.3.{weight,bias}": "point.trunk.groups.conv_2.{}",
    _POINT + "encoder.second_conv.0.{weight,bias}": "point.trunk.groups.conv_3.{}",
    _POINT + "encoder.second_conv.1.{weight,bias}": "point.trunk.groups.norm_3.{}",
    _POINT + "encoder.second_conv.1.running_{mean,var}": "point.trunk.groups.norm_3.running_{}",
    _POINT + "encoder.second_conv.1.num_batches_tracked": None,
    _POINT + "encoder.second_conv.3.{weight,bias}": "point.trunk.groups.conv_4.{}",
    _POINT + "reduce_dim.{weight,bias}": "point.trunk.reduce.{}",
    _POINT + "pos_embed.0.{weight,bias}": "point.trunk.position_1.{}",
    _POINT + "pos_embed.2.{weight,bias}": "point.trunk.position_2.{}",
    _POINT + "cls_token": "point.trunk.class_token",
    _POINT + "cls_pos": "point.trunk.class_position",
    _POINT + "blocks.blocks.{i}.norm1.{weight,bias}": "point.trunk.blocks.{i}.norm_1.{}",
    _POINT
    + "blocks.blocks.{i}.attn.qkv.weight": "point.trunk.blocks.{i}.attention.qkv_proj.weight",
    _POINT + "blocks.blocks.{i}.attn.proj.{weight,bias}": (
        "point.trunk.blocks.{i}.attention.out_proj.{}"
    ),
    _POINT + "blocks.blocks.{i}.norm2.{weight,bias}": "point.trunk.blocks.{i}.norm_2.{}",
    _POINT + "blocks.blocks.{i}.mlp.{fc1,fc2}.{weight,bias}": "point.trunk.blocks.{i}.mlp.{}.{}",
    _POINT + "norm.{weight,bias}": "point.trunk.norm.{}",
    "point_trunk.pc_projection": "point.trunk.projection",
}

_CHOICE = re.compile(r"\{(\w+(?:,\w+)+)\}")
_BLOCK_NUMBER = re.compile(r"(?<=\bblocks\.)\d+(?=\.)")


def _written_out() -> dict[str, str | None]:
    """Return `NAMES` with a separate row for each word in braces. `{i}` stays in the names."""
    rows: dict[str, str | None] = {}
    for released, ours in NAMES.items():
        choices = [group.split(",") for group in _CHOICE.findall(released)]
        for words in product(*choices):
            rows[_fill(released, _CHOICE, words)] = ours and _fill(ours, re.compile(r"\{\}"), words)
    return rows


def _fill(pattern: str, gap: re.Pattern[str], words: tuple[str, ...]) -> str:
    remaining = iter(words)
    return gap.sub(lambda _: next(remaining), pattern)


TO_OURS = _written_out()
TO_RELEASED = {ours: released for released, ours in TO_OURS.items() if ours is not None}


def to_ours(released: str) -> str | None:
    """Return this package's name of a released tensor, or None if the tensor is dropped.

    Raises KeyError: when the table lacks the name.
    """
    return _look_up(TO_OURS, released)


def to_released(ours: str) -> str:
    """Return the released name of a tensor of this package, for messages.

    Raises KeyError: when there is none.
    """
    name = _look_up(TO_RELEASED, ours)
    assert name is not None
    return name


def _look_up(table: Mapping[str, str | None], name: str) -> str | None:
    number = _BLOCK_NUMBER.search(name)
    if number is None:
        return table[name]
    row = table[_BLOCK_NUMBER.sub("{i}", name)]
    return row and row.replace("{i}", number[0])
