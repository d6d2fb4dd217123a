"""A small conditional flow: it turns noise and an embedding into the components of a picture.

A picture is a mean picture plus K principal components, which `train decoder` computes from its
training pictures. The network predicts the components x from x_t = t x + (1 - t) noise (the
straight path of flow matching, Lipman et al. 2023), the time t and the embedding's direction. Its
inputs and outputs are scaled to variance 1 (Karras et al. 2022), here with each component's
standard deviation.

Shapes: B pictures, K components, D embedding, W width, S side, P = 3 S S.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from model_ext.decoders.flow_config import FlowConfig

TIMES = 64  # number of sines and cosines that describe the time


class Block(nn.Module):
    """A residual block of two linear layers. The condition scales, shifts and gates its input."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(condition_width, 3 * width)
        self.up_proj = nn.Linear(width, 2 * width)
        self.down_proj = nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        scale, shift, gate = self.modulation(condition).chunk(3, dim=-1)
        inner = F.silu(self.up_proj(self.norm(hidden) * (1 + scale) + shift))
        result: Tensor = hidden + gate * self.down_proj(inner)
        return result


class Flow(nn.Module):
    """A flow: its network, the mean picture and the principal components of pictures."""

    mean: Tensor
    basis: Tensor
    scale: Tensor
    deviation: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        pixels = 3 * config.side**2
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.zeros(config.components, pixels))
        self.register_buffer("scale", torch.ones(config.components))
        self.register_buffer("deviation", torch.ones(config.components))
        self.condition_proj = nn.Sequential(
            nn.Linear(config.embed_dim + TIMES, 2 * config.condition_width),
            nn.SiLU(),
            nn.Linear(2 * config.condition_width, config.condition_width),
            nn.SiLU(),
        )
        self.in_proj = nn.Linear(config.components, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.condition_width) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.out_proj = nn.Linear(config.width, config.components)

    def reset(self) -> None:
        """Initialise the gates and the output with zeros, so that training starts from the mean."""
        for module in (*self.blocks, self):
            last = module.out_proj if module is self else module.modulation
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        width = self.config.width
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.ones_(block.modulation.bias[2 * width :])
            nn.init.zeros_(block.down_proj.weight)

    def forward(self, x_t: Tensor, time: Tensor, direction: Tensor) -> Tensor:
        """Predict the components x (B, K) from x_t (B, K), time (B,) in [0, 1] and unit or zero
        vectors (B, D). The zero vector means "no condition".
        """
        embedding = direction * math.sqrt(self.config.embed_dim)
        condition = self.condition_proj(torch.cat([embedding, _waves(time)], dim=-1))
        t = time[:, None]
        # Standard deviation of x_t.
        spread = ((t * self.deviation).square() + (1 - t).square()).sqrt()
        hidden = self.in_proj(x_t / spread)
        for block in self.blocks:
            hidden = block(hidden, condition)
        residual: Tensor = self.out_proj(self.norm(hidden))
        # The prediction is the best linear estimate of x from x_t, plus the network's correction.
        estimate = t * self.deviation.square() / spread.square() * x_t
        return estimate + self.residual_scale(time) * residual

    def residual_scale(self, time: Tensor) -> Tensor:
        """The standard deviation (B, K) of the error of the best linear estimate of x, for times
        (B,).
        """
        t = time[:, None]
        spread = ((t * self.deviation).square() + (1 - t).square()).sqrt()
        return self.deviation * (1 - t) / spread

    def components_of(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) with values in [-1, 1] -> components (B, K)."""
        return (pictures.flatten(1) - self.mean) @ self.basis.T / self.scale

    def pictures_of(self, components: Tensor) -> Tensor:
        """Components (B, K) -> pictures (B, 3, S, S) with values in [-1, 1]."""
        flat = (components * self.scale) @ self.basis + self.mean
        return flat.view(-1, 3, self.config.side, self.config.side).clamp(-1, 1)

    @torch.no_grad()
    def sample(
        self,
        embeddings: Tensor,
        generators: Sequence[Generator],
        steps: int,
        guidance: float,
        on_step: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Draw a picture for each embedding (B, D) of any length: (B, 3, S, S) in [-1, 1].

        Each picture uses its own generator, so that it does not depend on the others in its batch.
        `on_step` is called after each step.
        """
        # Generators run on the CPU, so that a seed gives the same noise on every device.
        noise = [torch.randn(self.config.components, generator=g) for g in generators]
        x_t = self.config.temperature * torch.stack(noise).to(self.mean)
        direction = F.normalize(embeddings.to(self.mean), dim=-1)
        for number in range(steps):
            time = torch.full((len(x_t),), number / steps).to(x_t)
            x = self(x_t, time, direction)
            if guidance != 1:
                plain = self(x_t, time, torch.zeros_like(direction))
                x = plain + guidance * (x - plain)
            # Euler's step along (x - x_t) / (1 - time); the last step ends at x.
            x_t = x_t + (x - x_t) / (steps - number)
            on_step()
        return self.pictures_of(x_t)


def _waves(time: Tensor) -> Tensor:
    """Return sines and cosines (B, TIMES) of the time."""
    rates = torch.exp(torch.linspace(0, math.log(200), TIMES // 2)).to(time)
    angles = time[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
