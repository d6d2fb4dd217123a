"""Build an `ImageBind` from the tensors of `imagebind_w3D.pth` or `imagebind_huge.pth`.

The caller (the converter) opens the pickled file and passes the tensors.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import ImageBind, TensorError
from model_ext.imagebind.names import to_ours, to_released


def from_released(tensors: Mapping[str, Tensor], config: ImageBindConfig) -> ImageBind:
    """Build a model. Without point tensors, the model has no point modality.

    Raises TensorError: when a tensor is missing, unknown or of another shape.
    """
    ours, unknown = rename(tensors)
    if unknown:
        raise TensorError("the ImageBind checkpoint has unknown tensors", unknown)
    if not any(name.startswith("point.") for name in ours):
        config = replace(config, point=None)
    return ImageBind.from_tensors(ours, config, spell=to_released)


def rename(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return this package's names -> tensors, and the released names that the table lacks."""
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
