"""Fields of vLLM's protocol that reach into the engine: refused, unless the operator allows them.

`incoming.py` asks for every request to the model. Even an allowed `vllm_xargs` cannot write the
conditioning: `ConditionedLLM` overwrites our key.
"""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from server.errors import BadRequest
from server.settings import EngineField

ENGINE_FIELDS: tuple[EngineField, ...] = get_args(EngineField)


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
