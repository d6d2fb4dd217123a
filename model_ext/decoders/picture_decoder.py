"""The interface of a decoder of pictures, and the settings of a picture.

Shapes: B pictures, D embedding, H x W pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from model_ext.conditioning import Vector

Pixels = NDArray[np.uint8]


class SettingsError(ValueError):
    """The decoder cannot draw with these settings; the message says why."""


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """Pictures with equal settings can be drawn in one batch."""

    width: int
    height: int
    steps: int
    guidance: float
    # Amount of noise that is added to the embedding, from 0 to the decoder's maximum.
    noise_level: int

    @classmethod
    def of(cls, values: dict[str, Any], defaults: Self) -> Self:
        """Read the settings of a request. The decoder's default replaces a value that is missing or
        None.
        """
        names = cls.__dataclass_fields__
        set_values = {name: values.get(name) for name in names}
        return cls(
            **{
                name: getattr(defaults, name) if value is None else value
                for name, value in set_values.items()
            }
        )


class PictureDecoder(Protocol):
    """`flow_decoder.FlowDecoder` and `unclip.UnclipDecoder` implement this interface."""

    embed_dim: int  # the length D of an embedding
    device: str
    defaults: PictureSettings

    def check(self, settings: PictureSettings) -> None:
        """Raises SettingsError: when the decoder cannot draw with these settings."""
        ...

    def draw(
        self,
        embeddings: Vector,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: PictureSettings,
        on_step: Callable[[], None],
    ) -> Pixels:
        """Draw a picture (B, H, W, 3) for each embedding (B, D), prompt and seed.

        A picture does not depend on the others of its batch. `on_step` is called after each step;
        an exception that it raises ends the drawing.
        """
        ...
