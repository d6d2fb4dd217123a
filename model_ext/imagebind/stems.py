"""Convert the input tensor of a modality to tokens: embed patches, add a class token and learned
positions.

The class token is first, then the patches row by row. Text has no class token.
Shapes: B samples, L tokens, E width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_ext.imagebind.config import (
    AudioConfig,
    ImuConfig,
    MapConfig,
    TextConfig,
    VisionConfig,
)

PATCH_NORM_EPS = 1e-5  # epsilon of the stems' norms; the trunk's norms have 1e-6


class ClassTokenStem(nn.Module):
    """The common base class of the stems of vision, audio, depth, thermal and imu."""

    def __init__(self, width: int, patches: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.positions = nn.Parameter(torch.empty(1, 1 + patches, width).normal_(std=0.02))

    def with_class_token(self, patches: Tensor, positions: Tensor) -> Tensor:
        """Prepend the class token to patches (B, L-1, E), add positions (1, L, E): (B, L, E)."""
        token = self.class_token.expand(len(patches), -1, -1)
        return torch.cat([token, patches], dim=1) + positions


class VisionStem(ClassTokenStem):
    """Embed still images (B, 3, S, S) or clips of F frames (B, 3, F, S, S): tokens (B, L, E).

    Patches do not overlap, so the convolution over (frames, patch, patch) is one matrix product.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__(config.width, config.grid**2)
        self.config = config
        patch = config.patch_size
        self.weight = nn.Parameter(
            torch.empty(config.width, config.channels, config.frames, patch, patch)
        )
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            x = x.unsqueeze(2).expand(-1, -1, self.config.frames, -1, -1)
        channels, frames, rows, columns = x.shape[1:]
        patch = self.config.patch_size
        if (channels, frames) != (self.config.channels, self.config.frames):
            raise ValueError(
                f"vision takes {self.config.channels} channels and {self.config.frames} frames,"
                f" got {channels} and {frames}"
            )
        if rows != columns or rows % patch:
            raise ValueError(
                f"vision needs square images of whole {patch}-pixel patches, got {rows}x{columns}"
            )
        grid = rows // patch
        x = x.reshape(-1, channels, frames, grid, patch, grid, patch)
        # one row per patch: (B, grid * grid, pixels)
        x = x.permute(0, 3, 5, 1, 2, 4, 6).flatten(3).flatten(1, 2)
        return self.with_class_token(F.linear(x, self.weight.flatten(1)), self._positions(grid))

    def _positions(self, grid: int) -> Tensor:
        """Return the position embeddings (1, L, E) of images with grid * grid patches.

        Interpolates them if the model was trained on images of another size.
        """
        if grid == self.config.grid:
            return self.positions
        side = self.config.grid
        table = self.positions[:, 1:].reshape(1, side, side, -1)
        resized = F.interpolate(
            table.permute(0, 3, 1, 2), size=(grid, grid), mode="bicubic", align_corners=False
        )
        return torch.cat([self.positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


class PictureStem(ClassTokenStem):
    """Embed spectrograms, depth or thermal images (B, 1, rows, columns): tokens (B, L, E)."""

    def __init__(
        self, width: int, size: tuple[int, int], kernel_size: int, stride: int, patches: int
    ) -> None:
        super().__init__(width, patches)
        self.size = size
        self.proj = nn.Conv2d(1, width, kernel_size, stride, bias=False)
        nn.init.trunc_normal_(self.proj.weight, std=0.02)
        self.norm = nn.LayerNorm(width, eps=PATCH_NORM_EPS)

    @classmethod
    def for_audio(cls, config: AudioConfig) -> "PictureStem":
        rows, columns = config.grid
        size = (config.mel_bins, config.target_length)
        return cls(config.width, size, config.kernel_size, config.stride, rows * columns)

    @classmethod
    def for_map(cls, config: MapConfig) -> "PictureStem":
        size = (config.image_size, config.image_size)
        return cls(config.width, size, config.patch_size, config.patch_size, config.grid**2)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (1, *self.size):
            raise ValueError(
                f"expected (B, 1, {self.size[0]}, {self.size[1]}), got {tuple(x.shape)}"
            )
        patches = self.proj(x).flatten(2).transpose(1, 2)
        return self.with_class_token(self.norm(patches), self.positions)


class ImuStem(ClassTokenStem):
    """Embed motion data (B, channels, steps), split into pieces of a few steps: tokens (B, L,
    E).
    """

    def __init__(self, config: ImuConfig) -> None:
        super().__init__(config.width, config.steps // config.kernel_size)
        self.config = config
        self.proj = nn.Linear(config.channels * config.kernel_size, config.width, bias=False)
        self.norm = nn.LayerNorm(config.width, eps=PATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (self.config.channels, self.config.steps):
            raise ValueError(
                f"expected (B, {self.config.channels}, {self.config.steps}), got {tuple(x.shape)}"
            )
        # (B, channels, pieces, steps) -> (B, pieces, values). In a piece, the values are ordered by
        # channel.
        pieces = x.reshape(*x.shape[:2], -1, self.config.kernel_size)
        pieces = pieces.transpose(1, 2).flatten(2)
        return self.with_class_token(self.norm(self.proj(pieces)), self.positions)


class TextStem(nn.Module):
    """Embed token ids (B, context) int64: tokens (B, context, E)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.context_length = config.context_length
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(
            torch.empty(1, config.context_length, config.width).normal_(std=0.01)
        )

    def forward(self, ids: Tensor) -> Tensor:
        if ids.shape[1:] != (self.context_length,):
            raise ValueError(f"expected (B, {self.context_length}) ids, got {tuple(ids.shape)}")
        tokens: Tensor = self.token_embedding(ids)
        return tokens + self.positions
