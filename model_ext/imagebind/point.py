"""The point trunk of Point-Bind: encodes each local group of a cloud's points as one token.

`ImageBind.cast` leaves modules with `keep_float32` in float32, because bfloat16 is too inexact for
coordinates and batch statistics. These modules need little time.

Shapes: B clouds, G groups, K points in a group, E width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_ext.imagebind.config import PointConfig
from model_ext.imagebind.portions import portions
from model_ext.imagebind.transformer import Block

NORM_EPS = 1e-5  # epsilon of all norms in this trunk


class Pointwise(nn.Conv1d):
    """A convolution with kernel size 1, computed as a linear layer (..., in) -> (..., out)."""

    def __init__(self, inputs: int, outputs: int, *, keep_float32: bool = False) -> None:
        super().__init__(inputs, outputs, 1)
        self.keep_float32 = keep_float32

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.squeeze(-1), self.bias)


class PositionMap(nn.Linear):
    """The first layer of the position embedding: coordinates (..., 3) float32 -> features."""

    keep_float32 = True


class BatchNorm(nn.Module):
    """BatchNorm over (rows, C). It has no counter of training batches, which is not needed."""

    keep_float32 = True

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=NORM_EPS,
        )


class GroupEncoder(nn.Module):
    """Compute one feature per group: (B, G, K, 3) -> (B, G, C).

    The order of points has no effect.
    """

    def __init__(self, config: PointConfig) -> None:
        super().__init__()
        self.conv_1 = Pointwise(3, config.first_hidden, keep_float32=True)
        self.norm_1 = BatchNorm(config.first_hidden)
        self.conv_2 = Pointwise(config.first_hidden, config.first_width)
        self.conv_3 = Pointwise(2 * config.first_width, config.second_hidden)
        self.norm_3 = BatchNorm(config.second_hidden)
        self.conv_4 = Pointwise(config.second_hidden, config.group_width)

    def forward(self, neighborhoods: Tensor) -> Tensor:
        groups = neighborhoods.flatten(0, 1)
        pooled = [self._pool(part) for part in portions(groups, groups.shape[1])]
        return torch.cat(pooled).view(*neighborhoods.shape[:2], -1)

    def _pool(self, groups: Tensor) -> Tensor:
        """Encode n groups of one or several clouds: (n, K, 3) -> (n, C)."""
        shape = (*groups.shape[:2], -1)
        x = groups.flatten(0, 1)  # one row of the matrix per point
        x = F.relu(self.norm_1(self.conv_1(x)))
        x = self.conv_2(x.to(self.conv_2.weight.dtype)).view(shape)
        whole = x.amax(dim=1, keepdim=True).expand_as(x)
        x = torch.cat([whole, x], dim=2).flatten(0, 1)
        x = self.conv_4(F.relu(self.norm_3(self.conv_3(x)))).view(shape)
        pooled: Tensor = x.amax(dim=1)
        return pooled


class PointTrunk(nn.Module):
    """Encode clouds: neighborhoods (B, G, K, 3), centers (B, G, 3), float32 -> (B, projection)."""

    def __init__(self, config: PointConfig) -> None:
        super().__init__()
        self.config = config
        self.groups = GroupEncoder(config)
        self.reduce = nn.Linear(config.group_width, config.width)
        self.position_1 = PositionMap(3, config.position_hidden)
        self.position_2 = nn.Linear(config.position_hidden, config.width)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.width).normal_(std=0.02))
        self.class_position = nn.Parameter(torch.empty(1, 1, config.width).normal_(std=0.02))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio, eps=NORM_EPS, qkv_bias=False)
            for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.projection = nn.Parameter(torch.empty(2 * config.width, config.projection))
        nn.init.normal_(self.projection, std=(2 * config.width) ** -0.5)

    def forward(self, neighborhoods: Tensor, centers: Tensor) -> Tensor:
        tokens = self.reduce(self.groups(neighborhoods))
        hidden = F.gelu(self.position_1(centers))
        positions = self.position_2(hidden.to(self.position_2.weight.dtype))
        x = self._prepend(self.class_token, tokens)
        positions = self._prepend(self.class_position, positions)
        pairs = (portions(each, x.shape[1]) for each in (x, positions))
        x = self.norm(torch.cat([self._run(*pair) for pair in zip(*pairs, strict=True)]))
        pooled = torch.cat([x[:, 0], x[:, 1:].amax(dim=1)], dim=-1)
        return torch.matmul(pooled, self.projection)

    def _run(self, x: Tensor, positions: Tensor) -> Tensor:
        """Apply all blocks to tokens (B, L, E), with position embeddings (B, L, E): (B, L, E)."""
        for block in self.blocks:
            x = block(x + positions)  # the position embeddings are added before each block
        return x

    @staticmethod
    def _prepend(token: Tensor, rest: Tensor) -> Tensor:
        return torch.cat([token.expand(len(rest), -1, -1), rest], dim=1)
