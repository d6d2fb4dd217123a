"""/v1/images/generations in OpenAI's format, with more inputs: attachments in `input`.

A picture is conditioned on the embedding of the attachments or, without attachments, of the prompt.
A decoder that reads texts also gets the prompt.
"""

import base64
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from server.api.body import Incoming, read_json
from server.api.embedding.cancellation import respond_unless_disconnected
from server.api.embedding.embed import check_model
from server.api.pictures.drawing import checked_request
from server.api.prompt.inputs import CACHE_HEADER, attachments_of, parse
from server.api.state import state_of
from server.conditioning.options import take_options
from server.conditioning.picture_options import MAX_SEED, PictureOptions
from server.errors import BadRequest
from server.media.attachments import Part, input_parts

router = APIRouter()

OPTIONS = ("size", "steps", "guidance", "noise_level", "seed")
FORMATS = {
    "stream": (None, False),
    "response_format": (None, "b64_json"),
    "output_format": (None, "png"),
}


class ImageRequest(BaseModel):
    """OpenAI's fields (except style and quality, which the decoder does not have), and additional
    fields.
    """

    prompt: str | None = None
    model: str | None = None
    n: int | None = None
    size: str | None = None
    response_format: str | None = None
    output_format: str | None = None
    stream: bool | None = None
    steps: int | None = Field(None, ge=1)
    guidance: float | None = Field(None, ge=1, le=50, allow_inf_nan=False)
    noise_level: int | None = Field(None, ge=0, le=999)
    seed: int | None = Field(None, ge=0, le=MAX_SEED)


@router.post("/v1/images/generations")
async def create_images(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await respond_unless_disconnected(draw(incoming, raw_request), raw_request)


async def draw(incoming: Incoming, raw_request: Request) -> Response:
    state = state_of(raw_request)
    options = take_options(incoming.document)
    items = incoming.document.pop("input", None)
    request = parse(ImageRequest, incoming.document)
    check_model(request.model, state)
    check_formats(request)
    values = PictureOptions(**{name: getattr(request, name) for name in OPTIONS})
    prompt = request.prompt or ""
    pictures = checked_request(raw_request, values, prompt, request.n, "", "n")
    attachments = await attachments_of(
        items, lambda items: parts_of(items, prompt), incoming, raw_request
    )
    conditioned = await state.components.conditioner.condition_picture(attachments, options)
    attachments.clear()  # so that the attachments' files are closed
    assert conditioned.picture is not None
    drawn = await pictures.draw(conditioned.picture)
    answer: dict[str, Any] = {
        "created": int(time.time()),
        "data": [{"b64_json": base64.b64encode(picture).decode()} for picture in drawn],
    }
    if options.explain:
        answer["imagebind"] = conditioned.explanation.model_dump()
    return JSONResponse(answer, headers={CACHE_HEADER: conditioned.explanation.cache})


def check_formats(request: ImageRequest) -> None:
    """Check the fields that select the format of the answer. Raises BadRequest: when a value is not
    supported.
    """
    for name, accepted in FORMATS.items():
        if getattr(request, name) not in accepted:
            raise BadRequest(f"{name} must be {accepted[1]!r} or missing", param=name)


def parts_of(items: Any, prompt: str) -> list[Part]:
    """Return the content parts that condition the pictures: those of `input`, or the prompt."""
    if items is not None:
        return input_parts(items if isinstance(items, list) else [items], "input")
    if not prompt:
        raise BadRequest("send a prompt, or attachments in input", param="prompt")
    return input_parts(prompt, "prompt")
