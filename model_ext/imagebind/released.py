"""Read the tensors of a released `imagebind_w3D.pth` or `imagebind_huge.pth` into our modules.

Strict both ways: a tensor that is missing, unknown or of another shape is an error that names it.
Knows tensors already in memory; opening a pickled file is the converter's business.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import ImageBind, TensorError
from model_ext.imagebind.names import to_ours, to_released


def from_released(tensors: Mapping[str, Tensor], config: ImageBindConfig) -> ImageBind:
    """`imagebind_huge.pth` has no point tensors: the model then has no point modality."""
    ours, unknown = rename(tensors)
    if unknown:
        raise TensorError("the ImageBind checkpoint has unknown tensors", unknown)
    if not any(name.startswith("point.") for name in ours):
        config = replace(config, point=None)
    return ImageBind.from_tensors(ours, config, spell=to_released)


def rename(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Our names, and the released names that the table does not know."""
    ours: dict[str, Tensor] = {}
    unknown: list[str] = []
    for released, tensor in tensors.items():
        try:
            name = to_ours(released)
        except KeyError:
            unknown.append(released)
            continue
        if name is not None:
            ours[name] = tensor
    return ours, unknown
