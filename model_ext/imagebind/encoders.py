"""One encoder per modality.

Its parts: the stem makes tokens from the input, the trunk is a transformer, pooling selects one
token, the head projects it to the embedding space, and the postprocessor multiplies by the logit
scale. This module does not depend on clips, devices or files. Shapes: B samples, E width, D
embedding, G groups of a cloud, K points in a group.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_ext.imagebind.config import (
    AudioConfig,
    ImuConfig,
    MapConfig,
    PointConfig,
    TextConfig,
    TrunkConfig,
    VisionConfig,
)
from model_ext.imagebind.grouping import group
from model_ext.imagebind.point import PointTrunk
from model_ext.imagebind.stems import ImuStem, PictureStem, TextStem, VisionStem
from model_ext.imagebind.transformer import NORM_EPS, Transformer, init_weights

# Logit scales of a new model. A released checkpoint contains trained values. Vision has no scale.
LOGIT_SCALES = {
    "text": 1 / 0.07,
    "audio": 20.0,
    "depth": 5.0,
    "thermal": 10.0,
    "imu": 5.0,
    "point": 1.0,
}


class Head(nn.Module):
    """The head: pooled token (B, E) -> embedding before normalisation (B, D), called "prenorm"."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.proj = nn.Linear(width, embed_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(self.norm(x).to(self.proj.weight.dtype))
        return out


class Postprocessor(nn.Module):
    """The postprocessor: scale the head's outputs (B, D) to the length min(exp(log_logit_scale),
    100). The results are called "post".
    """

    log_logit_scale: Tensor | None

    def __init__(self, modality: str) -> None:
        super().__init__()
        if modality not in LOGIT_SCALES:
            self.log_logit_scale = None
            return
        log_scale = torch.tensor(LOGIT_SCALES[modality]).log()
        if modality == "text":  # only the scale of texts is a trained parameter
            self.log_logit_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_logit_scale", log_scale)

    def forward(self, prenorm: Tensor) -> Tensor:
        unit = F.normalize(prenorm, dim=-1, eps=1e-12)
        if self.log_logit_scale is None:
            return unit
        return unit * self.log_logit_scale.float().exp().clamp(max=100)


class Encoder(nn.Module):
    """The encoder of vision, audio, depth, thermal and imu. Pooling selects the class token."""

    def __init__(self, stem: nn.Module, trunk: Transformer, head: Head, post: Postprocessor):
        super().__init__()
        self.stem = stem
        self.trunk = trunk
        self.head = head
        self.post = post

    @property
    def dtype(self) -> torch.dtype:
        return self.head.proj.weight.dtype

    def prepare(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Convert the inputs to the arguments of `forward`.

        By default, casts them to the dtype of the weights. This step may depend on the values of
        the inputs, so it is not part of a CUDA graph.
        """
        return (inputs.to(self.dtype),)

    def forward(self, x: Tensor) -> Tensor:
        """-> prenorm (B, D)"""
        out: Tensor = self.head(self.trunk(self.stem(x))[:, 0])
        return out


class TextEncoder(Encoder):
    """The encoder of text.

    Pooling selects the token of the end mark, which has the highest id. `ImageBind.cast` changes
    only the dtype of matrix products here. Tokens, norms and sums stay in float32, because the
    embeddings of short texts differ too little for sums in bfloat16.
    """

    def __init__(self, stem: nn.Module, trunk: Transformer, head: Head, post: Postprocessor):
        super().__init__(stem, trunk, head, post)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm | nn.Embedding | TextStem):
                setattr(module, "keep_float32", True)  # noqa: B010

    def prepare(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return (inputs,)

    def forward(self, ids: Tensor) -> Tensor:
        tokens = self.trunk(self.stem(ids))
        ends = tokens[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
        out: Tensor = self.head(ends)
        return out


class PointEncoder(nn.Module):
    """The encoder of point clouds. `prepare` groups the points, `forward` encodes the groups."""

    def __init__(self, trunk: PointTrunk, head: Head, post: Postprocessor) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.post = post

    def prepare(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Group the points: clouds (B, N, 3) -> neighborhoods (B, G, K, 3) and centers (B, G, 3),
        in float32.
        """
        return group(inputs, self.trunk.config.groups, self.trunk.config.group_size)

    def forward(self, neighborhoods: Tensor, centers: Tensor) -> Tensor:
        """-> prenorm (B, D)"""
        out: Tensor = self.head(self.trunk(neighborhoods, centers))
        return out


def build(modality: str, config: TrunkConfig, embed_dim: int) -> Encoder | PointEncoder:
    """Create an encoder with initial values of its weights, for training."""
    post = Postprocessor(modality)
    encoder: Encoder | PointEncoder
    if isinstance(config, PointConfig):
        encoder = PointEncoder(PointTrunk(config), Head(config.projection, embed_dim), post)
    else:
        kind = TextEncoder if modality == "text" else Encoder
        head = Head(config.width, embed_dim)
        encoder = kind(_stem(config), _trunk(modality, config), head, post)
    return encoder.apply(init_weights)


def _stem(config: TrunkConfig) -> nn.Module:
    match config:
        case VisionConfig():
            return VisionStem(config)
        case TextConfig():
            return TextStem(config)
        case AudioConfig():
            return PictureStem.for_audio(config)
        case MapConfig():
            return PictureStem.for_map(config)
        case ImuConfig():
            return ImuStem(config)
    raise TypeError(f"no stem for {type(config).__name__}")


def _trunk(modality: str, config: TrunkConfig) -> Transformer:
    return Transformer(
        config.width,
        config.blocks,
        config.heads,
        config.mlp_ratio,
        pre_norm=modality == "vision",
        bias_kv=modality not in ("vision", "text"),
        causal=modality == "text",
    )
