"""The top-level `imagebind` object that requests and responses have beside OpenAI's fields.

JSON shapes only. `media/attachments.py` reads the attachments inside messages; vLLM's protocol
classes read the rest of a request.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.errors import BadRequest

CacheState = Literal["on", "off", "unavailable"]


class CacheOptions(BaseModel):
    """How strongly the cache moves an embedding. None: the manifest's value; the released values
    are 10, 20 and 0.5."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    top_k: int | None = Field(None, ge=1)
    temperature: float | None = None  # higher: fewer neighbors count
    weight: float | None = Field(None, ge=0, le=1)  # 0 ignores the cache, 1 ignores the query

    def values(self) -> dict[str, Any]:
        """The values that the request sets, by the names of `cache_index.enhance.CacheParams`."""
        values = {
            "top_k": self.top_k,
            "inverse_temperature": self.temperature,
            "weight": self.weight,
        }
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
    """One entry of the cache that moved the embedding."""

    row: int
    similarity: float
    caption: str | None = None
    id: str | None = None


class Explanation(BaseModel):
    """The response's `imagebind` object, returned for `explain`."""

    text_only: bool
    mix: list[MixedPart]
    cache: CacheState
    neighbors: list[NeighborPart]


def take_options(document: dict[str, Any]) -> ImageBindOptions:
    """Remove `imagebind` from a request's JSON and parse it.

    Raises BadRequest, which names the key.
    """
    value = document.pop("imagebind", None)
    if value is None:
        return ImageBindOptions()
    try:
        return ImageBindOptions.model_validate(value)
    except ValidationError as error:
        # `cache` has two types. The error with the longest path belongs to the type that was meant.
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        deepest = max(errors, key=lambda each: len(each["loc"]))
        keys = [str(key) for key in deepest["loc"] if key not in ("bool", "CacheOptions")]
        param = ".".join(["imagebind", *keys])
        raise BadRequest(f"{param}: {deepest['msg']}", param=param) from None
