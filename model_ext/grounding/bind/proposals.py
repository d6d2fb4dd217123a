"""A small convolutional network that finds the boxes of all things in a picture, without names.

One cell of its output grid (1/8 of the square's side) predicts the probability that a thing's
middle is near the cell's center, and the thing's box.
Shapes: B pictures, S side of the square, G = S / 8 side of the grid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 8
# If the network's raw output for a distance is 0, the distance is this number of pixels.
UNIT = 2 * STRIDE
PRIOR = -4.6  # Initial logit of a cell. It is low, because most cells contain no object.


class Block(nn.Module):
    """Two convolutions whose result is added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = F.relu(x + self.second(F.relu(self.first(x))))
        return result


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


def stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """Halve the side of the picture, then apply blocks."""
    return nn.Sequential(
        convolution(inputs, outputs, stride=2), nn.ReLU(), *(Block(outputs) for _ in range(blocks))
    )


class ProposalNetwork(nn.Module):
    def __init__(self, channels: tuple[int, int, int, int], head_channels: int) -> None:
        super().__init__()
        quarter, eighth, sixteenth, last = channels
        self.stem = nn.Sequential(
            convolution(3, quarter, stride=2),
            nn.ReLU(),
            convolution(quarter, quarter, stride=2),
            nn.ReLU(),
            Block(quarter),
        )
        self.stages = nn.ModuleList(
            [stage(quarter, eighth, 2), stage(eighth, sixteenth, 3), stage(sixteenth, last, 3)]
        )
        self.laterals = nn.ModuleList(nn.Conv2d(c, head_channels, 1) for c in channels[1:])
        self.context = nn.Linear(last, head_channels)
        self.merge = nn.Sequential(convolution(head_channels, head_channels), nn.ReLU())
        self.objectness = nn.Sequential(
            convolution(head_channels, head_channels), nn.ReLU(), nn.Conv2d(head_channels, 1, 1)
        )
        self.distances = nn.Sequential(
            convolution(head_channels, head_channels), nn.ReLU(), nn.Conv2d(head_channels, 4, 1)
        )
        nn.init.constant_(self.objectness[-1].bias, PRIOR)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Predict logits (B, G * G) and boxes (B, G * G, 4) from pictures (B, 3, S, S)."""
        x, levels = self.stem(pictures), []
        for layer in self.stages:
            x = layer(x)
            levels.append(x)
        merged = self.context(x.mean((2, 3)))[:, :, None, None] + self.laterals[2](levels[2])
        for index in (1, 0):
            larger = F.interpolate(merged, levels[index].shape[2:], mode="nearest")
            merged = larger + self.laterals[index](levels[index])
        merged = self.merge(F.relu(merged))
        logits = self.objectness(merged).float().flatten(1)
        raw = self.distances(merged).float().flatten(2).transpose(1, 2)
        distances = UNIT * raw.clamp(-4, 3.2).exp()
        middle = centers(pictures.shape[-1], pictures.device)
        return logits, torch.cat([middle - distances[..., :2], middle + distances[..., 2:]], -1)


def centers(side: int, device: torch.device) -> Tensor:
    """The centers of the grid's cells (G * G, 2) in pixels: x, y; row after row."""
    places = (torch.arange(side // STRIDE, device=device) + 0.5) * STRIDE
    y, x = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)
