"""How a picture is drawn: the object `imagebind.picture`, and fields of /v1/images/generations.

A field that is missing has the decoder's default. This module checks the operator's limits. The
decoder itself checks whether it can draw with the values.
"""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from server.errors import BadRequest
from server.settings import Settings

SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
MIN_SIDE = 16
MAX_SEED = 2**63 - 1 - 16  # the pictures of a request have consecutive seeds


class PictureOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: str | None = None  # WIDTHxHEIGHT in pixels, or "auto"
    steps: int | None = Field(default=None, ge=1)
    # How much the picture follows its condition. 1: not more than the decoder learned.
    guidance: float | None = Field(default=None, ge=1, le=50)
    noise_level: int | None = Field(
        default=None, ge=0, le=999
    )  # Noise that is added to the embedding.
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)  # None: a random seed.

    def document(self, settings: Settings, param: str) -> dict[str, Any]:
        """Return the values that this object sets, as the decoder reads them.

        `param`: the name of the object in errors; "" for the whole request.
        Raises BadRequest: when a value is above the operator's limit.
        """
        width, height = self._pixels(settings, join(param, "size"))
        if self.steps is not None and self.steps > settings.max_picture_steps:
            name = join(param, "steps")
            raise BadRequest(f"{name} must be at most {settings.max_picture_steps}", param=name)
        return {
            "width": width,
            "height": height,
            "steps": self.steps,
            "guidance": self.guidance,
            "noise_level": self.noise_level,
        }

    def _pixels(self, settings: Settings, param: str) -> tuple[int | None, int | None]:
        if self.size in (None, "auto"):
            return None, None
        match = SIZE.fullmatch(self.size or "")
        if match is None:
            raise BadRequest(f'{param} must be WIDTHxHEIGHT, like 256x256, or "auto"', param=param)
        width, height = int(match[1]), int(match[2])
        if min(width, height) < MIN_SIDE or width * height > settings.max_picture_pixels:
            raise BadRequest(
                f"{param}: each side must have at least {MIN_SIDE} pixels, and a picture at most "
                f"{settings.max_picture_pixels}",
                param=param,
            )
        return width, height


def join(param: str, name: str) -> str:
    return f"{param}.{name}" if param else name
