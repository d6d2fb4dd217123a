"""Read the inputs of a request's JSON: its fields and the attachments in them.

Used by all routes that have attachments, with a language model or without.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from server.api.body import Incoming, Json, run
from server.api.limits.fields import check_parsed
from server.api.state import state_of
from server.context import current
from server.errors import BadRequest
from server.media.attachments import Attachment, Part, read_attachments
from server.media.sources import Sources
from server.metrics import stage

Model = TypeVar("Model", bound=BaseModel)

CACHE_HEADER = "x-bindserve-cache"
EXPERTS_HEADER = "x-bindserve-experts"


async def attachments_of(
    value: Any,
    parts_of: Callable[[Any], list[Part]],
    incoming: Incoming,
    raw_request: Request,
) -> list[Attachment]:
    """Return the attachments in `value`, a field of the request. `parts_of` returns the content
    parts in this field.
    """
    sources = sources_of(incoming, raw_request)
    limits = state_of(raw_request).components.attachment_limits

    def read() -> list[Attachment]:
        return read_attachments(parts_of(value), limits, sources)

    with stage("attachments"):
        return await run(incoming.large, read)


def sources_of(incoming: Incoming, raw_request: Request) -> Sources:
    """Return the files and URLs that content parts may refer to: uploads, stored files, links."""
    state = state_of(raw_request)
    return Sources(
        incoming.take_uploads(),
        state.components.files.of(current().key_salt),
        urls=state.settings.allow_media_urls,
    )


def parse(model: type[Model], document: Json) -> Model:
    """Parse the JSON with the protocol class `model`. Raises RequestValidationError, BadRequest."""
    try:
        request = model.model_validate(document)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None
    # vLLM's validators raise these exceptions for a field of the wrong type.
    except (AttributeError, TypeError, LookupError):
        raise BadRequest("a field of the request is of the wrong type") from None
    check_parsed(request)
    return request
