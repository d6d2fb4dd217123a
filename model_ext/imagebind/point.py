"""The point trunk of Point-Bind: a cloud becomes tokens, one per local group of points.

Shapes: B clouds, N points, G groups, K points in a group, E width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_ext.imagebind.config import PointConfig
from model_ext.imagebind.grouping import group
from model_ext.imagebind.transformer import Block

NORM_EPS = 1e-5  # of every norm in this trunk


class BatchNorm(nn.Module):
    """BatchNorm over (B, C, L) without the batch counter, which has no use at inference."""

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
    """One feature per group, whatever the order of its points: (B, G, K, 3) -> (B, G, C)."""

    def __init__(self, config: PointConfig) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(3, config.first_hidden, 1)
        self.norm_1 = BatchNorm(config.first_hidden)
        self.conv_2 = nn.Conv1d(config.first_hidden, config.first_width, 1)
        self.conv_3 = nn.Conv1d(2 * config.first_width, config.second_hidden, 1)
        self.norm_3 = BatchNorm(config.second_hidden)
        self.conv_4 = nn.Conv1d(config.second_hidden, config.group_width, 1)

    def forward(self, neighborhoods: Tensor) -> Tensor:
        x = neighborhoods.flatten(0, 1).transpose(1, 2)  # (B * G, 3, K)
        x = self.conv_2(F.relu(self.norm_1(self.conv_1(x))))
        whole = x.amax(dim=2, keepdim=True).expand_as(x)
        x = self.conv_4(F.relu(self.norm_3(self.conv_3(torch.cat([whole, x], dim=1)))))
        pooled: Tensor = x.amax(dim=2).view(*neighborhoods.shape[:2], -1)
        return pooled


class PointTrunk(nn.Module):
    """Clouds (B, N, 3) float32 -> (B, projection)."""

    def __init__(self, config: PointConfig) -> None:
        super().__init__()
        self.config = config
        self.groups = GroupEncoder(config)
        self.reduce = nn.Linear(config.group_width, config.width)
        self.position_1 = nn.Linear(3, config.position_hidden)
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

    def forward(self, points: Tensor) -> Tensor:
        neighborhoods, centers = group(points, self.config.groups, self.config.group_size)
        dtype = self.projection.dtype  # grouping is float32; what follows is the weights' type
        tokens = self.reduce(self.groups(neighborhoods.to(dtype)))
        positions = self.position_2(F.gelu(self.position_1(centers.to(dtype))))
        x = self._prepend(self.class_token, tokens)
        positions = self._prepend(self.class_position, positions)
        for block in self.blocks:
            x = block(x + positions)  # the position is added again before each block
        x = self.norm(x)
        pooled = torch.cat([x[:, 0], x[:, 1:].amax(dim=1)], dim=-1)
        return torch.matmul(pooled, self.projection)

    @staticmethod
    def _prepend(token: Tensor, rest: Tensor) -> Tensor:
        return torch.cat([token.expand(len(rest), -1, -1), rest], dim=1)
