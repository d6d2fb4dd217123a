"""The JSON object `imagebind`, which requests and responses have in addition to OpenAI's fields.

This module only defines the JSON. `media/attachments.py` reads the attachments inside messages;
vLLM's protocol classes read the rest of a request.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.conditioning.picture_options import PictureOptions
from server.errors import BadRequest
from server.settings import Expert

CacheState = Literal["on", "off", "unavailable"]
# Names of types that pydantic inserts into the paths of errors; they are not keys of the request.
UNIONS = ("bool", "CacheOptions", "GroundOptions", "literal['all','latest']", "Decay")


class CacheOptions(BaseModel):
    """How strongly the retrieval cache moves an embedding.

    For fields that are None, the values in the cache's manifest apply. The released model uses
    top_k 10, temperature 20 and weight 0.5.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    top_k: int | None = Field(None, ge=1)
    temperature: float | None = None  # With a higher temperature, fewer neighbors count.
    # With weight 0 the neighbors are ignored, with 1 the query is ignored.
    weight: float | None = Field(None, ge=0, le=1)

    def values(self) -> dict[str, Any]:
        """Return the values that the request sets, with the field names of
        `cache_index.enhance.CacheParams`.
        """
        values = {
            "top_k": self.top_k,
            "inverse_temperature": self.temperature,
            "weight": self.weight,
        }
        return {name: value for name, value in values.items() if value is not None}


class WindowOptions(BaseModel):
    """Embed a sound or a video in windows, one embedding per window."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seconds: float = Field(ge=0.1, le=60)
    # Seconds between the starts of two windows. None: equal to `seconds`, so that windows do not
    # overlap.
    stride: float | None = Field(None, ge=0.1, le=3600)


class Decay(BaseModel):
    """Multiply an attachment's weight by `decay` for each later user turn."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    decay: float = Field(ge=0, le=1)


class GroundOptions(BaseModel):
    """Options of grounding, which finds the nouns of the answer in the request's pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    # parser: the detector's process parses the answer. model: the language model lists the nouns.
    nouns: Literal["parser", "model"] = "parser"
    # The minimum score of a box. None: the detector's default.
    threshold: float | None = Field(default=None, ge=0, le=1)


class ImageBindOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    # None: use the cache if the model has one.
    cache: bool | CacheOptions | None = None
    explain: bool = False
    windows: WindowOptions | None = None  # Allowed only in /v1/embeddings and /v1/score.
    picture: PictureOptions | None = None  # Allowed only if the answer has pictures.
    # Allowed only in chat completions, responses and messages.
    ground: bool | GroundOptions | None = None
    # The experts whose texts the prompt gets. None: the operator's default. Not allowed in
    # /v1/completions and /v1/embeddings.
    experts: Annotated[list[Expert] | None, Field(max_length=8)] = None
    # How much attachments of earlier turns count. Allowed only in requests with messages. None
    # means "all".
    turns: Literal["all", "latest"] | Decay | None = None


class MixedPart(BaseModel):
    """One attachment's share of the conditioning embedding."""

    param: str
    modality: str
    weight: float  # The client's weight, reduced by the option `turns`.
    share: float  # The weight divided by the sum of all weights.
    # Facts that the file's reader reports, e.g. the chosen channel of a sound.
    notes: dict[str, str | int | float | bool] = {}
    cached: bool = False  # Whether the embedding came from the result cache.


class ExpertPart(BaseModel):
    """The text that an expert recognized in one attachment."""

    param: str
    expert: str
    state: Literal["on", "unavailable"]
    text: str  # the text in the prompt; "" if the expert recognized nothing


class NeighborPart(BaseModel):
    """One neighbor in the retrieval cache that moved the embedding."""

    row: int
    similarity: float
    caption: str | None = None
    id: str | None = None


class Explanation(BaseModel):
    """The response's `imagebind` object, which the request option `explain` enables."""

    text_only: bool
    mix: list[MixedPart]
    cache: CacheState
    neighbors: list[NeighborPart]
    experts: list[ExpertPart] = []


def take_options(
    document: dict[str, Any],
    *,
    windows: bool = False,
    experts: bool = False,
    turns: bool = False,
    picture: bool = False,
    ground: bool = False,
) -> ImageBindOptions:
    """Remove the object `imagebind` from a request's JSON, and parse it.

    `windows`, `experts`, `turns`, `picture`, `ground`: whether the request accepts this key.
    Raises BadRequest: when a key is wrong; the error names the key.
    """
    options = parse_options(document)
    if options.turns is not None and not turns:
        raise BadRequest("turns is only for requests with messages", param="imagebind.turns")
    if options.windows is not None and not windows:
        raise BadRequest(
            "windows is only for the routes embeddings and score", param="imagebind.windows"
        )
    if options.picture is not None and not picture:
        raise BadRequest(
            "picture is only for requests whose answer has pictures", param="imagebind.picture"
        )
    if options.ground and not ground:
        raise BadRequest(
            "ground is only for the routes chat/completions, responses and messages",
            param="imagebind.ground",
        )
    if options.experts is not None and not experts:
        raise BadRequest(
            "experts is only for chat completions, responses and messages",
            param="imagebind.experts",
        )
    return options


def parse_options(document: dict[str, Any]) -> ImageBindOptions:
    value = document.pop("imagebind", None)
    if value is None:
        return ImageBindOptions()
    try:
        return ImageBindOptions.model_validate(value)
    except ValidationError as error:
        # The fields `cache`, `ground` and `turns` accept several types, so pydantic reports an
        # error for each. Choose the error with the longest path, which belongs to the type that
        # the client meant.
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        deepest = max(errors, key=lambda each: len(each["loc"]))
        keys = [str(key) for key in deepest["loc"] if key not in UNIONS]
        param = ".".join(["imagebind", *keys])
        raise BadRequest(f"{param}: {deepest['msg']}", param=param) from None
