"""Fields of vLLM's protocol that reach into the engine: refused, unless the operator allows them.

A dependency of every route that takes a request for the model. Even an allowed `vllm_xargs` cannot
write the conditioning: `ConditionedLLM` overwrites our key.
"""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from fastapi import Request

from server.errors import BadRequest, UnsupportedMediaType
from server.settings import EngineField

ENGINE_FIELDS: tuple[EngineField, ...] = get_args(EngineField)


async def refuse_engine_fields(request: Request) -> None:
    """Before the route parses the body; FastAPI keeps the JSON, so that it is parsed once."""
    document = await read_json(request)
    check(document, request.app.state.settings.allow_fields)


async def read_json(request: Request) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("Content-Type must be application/json")
    try:
        document = await request.json()
    except (ValueError, RecursionError):
        raise BadRequest("the request is not JSON") from None
    if not isinstance(document, dict):
        raise BadRequest("the request must be a JSON object")
    return document


def check(document: Mapping[str, Any], allowed: Collection[str]) -> None:
    for field in ENGINE_FIELDS:
        if field not in allowed and document.get(field) is not None:
            raise refused(field)
    kwargs = document.get("chat_template_kwargs")
    if isinstance(kwargs, dict) and "chat_template" not in allowed:
        for key in ("chat_template", "tokenize"):
            if key in kwargs:
                raise refused(f"chat_template_kwargs.{key}")


def refused(field: str) -> BadRequest:
    return BadRequest(
        f"{field} is not allowed on this server (the operator may allow it: --allow-field)",
        param=field,
        code="field_not_allowed",
    )
