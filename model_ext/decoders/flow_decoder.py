"""Draw pictures with a flow (flow.py). A flow draws pictures of one size, which are then scaled to
the requested size.

Shapes: B pictures, D embedding, S side of the flow's pictures.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model_ext.conditioning import Vector
from model_ext.decoders.flow import Flow
from model_ext.decoders.flow_file import load_flow
from model_ext.decoders.picture_decoder import PictureSettings, Pixels, SettingsError

DEFAULT_SIDE = 256  # side in pixels of a picture whose request has no size


class FlowDecoder:
    """A flow that draws on one device."""

    def __init__(self, flow: Flow, device: str = "cpu") -> None:
        self.embed_dim = flow.config.embed_dim
        self.device = device
        self.defaults = PictureSettings(
            DEFAULT_SIDE, DEFAULT_SIDE, flow.config.steps, flow.config.guidance, 0
        )
        self._flow = flow

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> "FlowDecoder":
        """Raises ConvertError: when the folder is not a flow decoder."""
        return cls(load_flow(folder, device), device)

    def check(self, settings: PictureSettings) -> None:
        if settings.noise_level:
            raise SettingsError("this decoder adds no noise to embeddings: noise_level must be 0")

    def draw(
        self,
        embeddings: Vector,
        prompts: Sequence[str],  # noqa: ARG002  # the flow reads no text
        seeds: Sequence[int],
        settings: PictureSettings,
        on_step: Callable[[], None],
    ) -> Pixels:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn = self._flow.sample(
            torch.from_numpy(embeddings), generators, settings.steps, settings.guidance, on_step
        )
        pixels = ((drawn + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return np.stack([scaled(picture, settings) for picture in pixels])


def scaled(picture: Pixels, settings: PictureSettings) -> Pixels:
    """Scale a square picture (S, S, 3) to the largest square that fits the requested size, and fill
    the rest with white.
    """
    side = min(settings.width, settings.height)
    square = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (settings.width, settings.height), "white")
    canvas.paste(square, ((settings.width - side) // 2, (settings.height - side) // 2))
    return np.asarray(canvas)
