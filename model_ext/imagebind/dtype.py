"""Choose the dtype of the encoders' weights, and compute the embedding of requests without
attachments in float32.
"""

import torch
from torch import Tensor

from model_ext.errors import ConfigError
from model_ext.imagebind.config import Dtype, DtypeSetting
from model_ext.imagebind.model import ImageBind


def choose_dtype(setting: DtypeSetting, device: torch.device | str) -> Dtype:
    """Choose the dtype. For "auto": bfloat16 on a GPU that supports bfloat16, else float32."""
    if setting != "auto":
        return setting
    if torch.device(device).type != "cuda":
        return "float32"
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float32"


def torch_dtype(name: Dtype) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype


@torch.no_grad()
def zero_image(model: ImageBind) -> Tensor:
    """Compute, on the CPU, the embedding (D,) of a request without attachments: that of an image of
    zeros.

    In normalised images, zero is the average color of the training images.
    Raises ConfigError: when the model has no vision encoder.
    Raises ValueError: when the encoder's weights are not float32. float32 is required, because
    models were trained with the float32 vector, and every text request uses it.
    """
    if model.config.vision is None:
        raise ConfigError("text_only is zero_image, but the model has no vision encoder")
    weight = model.get_parameter("vision.head.proj.weight")
    if weight.dtype != torch.float32:
        raise ValueError(f"zero_image needs float32 weights, got {weight.dtype}")
    side = model.config.vision.image_size
    return model.unit("vision", torch.zeros(1, 3, side, side, device=weight.device))[0].cpu()
