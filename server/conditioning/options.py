"""What our HTTP interface adds to OpenAI's: the top-level `imagebind` object and its answer.

Shapes of JSON only. The attachments inside messages are read by `attachments.py`; everything else
in a request belongs to vLLM's own protocol classes.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.errors import BadRequest

CacheState = Literal["on", "off", "unavailable"]


class CacheOptions(BaseModel):
    """How far to trust the cache. None: as its manifest says, which is usually as released:
    10, 20 and 0.5."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    top_k: int | None = Field(None, ge=1)
    temperature: float | None = None  # higher: fewer neighbors count
    weight: float | None = Field(None, ge=0, le=1)  # 0 ignores the cache, 1 ignores the query

    def given(self) -> dict[str, Any]:
        """Under `cache_index.enhance.CacheParams`' names."""
        names = {"top_k": "top_k", "temperature": "inverse_temperature", "weight": "weight"}
        values = {ours: getattr(self, name) for name, ours in names.items()}
        return {name: value for name, value in values.items() if value is not None}


class ImageBindOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    cache: bool | CacheOptions | None = None  # None: on if the model has a cache
    explain: bool = False


class MixedPart(BaseModel):
    """One attachment's share of the conditioning embedding."""

    param: str
    modality: str
    weight: float  # as sent
    share: float  # of the whole, after division by the sum of the weights


class NeighborPart(BaseModel):
    """One entry of the cache that was blended in."""

    row: int
    similarity: float
    caption: str | None = None
    id: str | None = None


class Explanation(BaseModel):
    """What `explain` returns, under the response's `imagebind` key."""

    text_only: bool
    mix: list[MixedPart]
    cache: CacheState
    neighbors: list[NeighborPart]


def take_options(document: dict[str, Any]) -> ImageBindOptions:
    """Remove `imagebind` from a request's JSON and read it. BadRequest names the key at fault."""
    value = document.pop("imagebind", None)
    if value is None:
        return ImageBindOptions()
    try:
        return ImageBindOptions.model_validate(value)
    except ValidationError as error:
        # `cache` is one of two types: the error that went deepest is about the one that was meant.
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        deepest = max(errors, key=lambda each: len(each["loc"]))
        keys = [str(key) for key in deepest["loc"] if key not in ("bool", "CacheOptions")]
        param = ".".join(["imagebind", *keys])
        raise BadRequest(f"{param}: {deepest['msg']}", param=param) from None
