"""Limits on the fields of a request: which vLLM fields clients may set, and the maximum values.

`body.py` calls these checks for every request that uses the model, before other code reads the
request. This module does not check types, because vLLM's protocol classes do, nor `logprobs`, which
vLLM limits (--max-logprobs).
"""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from server.errors import BadRequest
from server.settings import EngineField, Settings

ENGINE_FIELDS: tuple[EngineField, ...] = get_args(EngineField)
TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens")
CHOICES = ("n", "best_of")
# The maximum number of items in each field that vLLM iterates over for every generated token.
MAX_ITEMS = {
    "stop": 16,
    "stop_sequences": 16,
    "stop_token_ids": 64,
    "bad_words": 64,
    "allowed_token_ids": 1024,
    "logit_bias": 1024,
    "tools": 128,
}
STRINGS = ("stop", "stop_sequences", "bad_words")
MAX_CHARACTERS = 256  # The maximum length of one text in the fields above.
MAX_PROMPTS = 64  # The maximum number of prompts in one request to /v1/completions.


def check_engine_fields(document: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Check that the operator allows the vLLM fields that the request sets.

    Raises BadRequest: when the operator does not allow a field.
    """
    for field in ENGINE_FIELDS:
        if field not in allowed and document.get(field) is not None:
            raise not_allowed(field)
    kwargs = document.get("chat_template_kwargs")
    if isinstance(kwargs, dict) and "chat_template" not in allowed:
        for key in ("chat_template", "tokenize"):
            if key in kwargs:
                raise not_allowed(f"chat_template_kwargs.{key}")


def not_allowed(field: str) -> BadRequest:
    return BadRequest(
        f"{field} is not allowed on this server (the operator may allow it: --allow-field)",
        param=field,
        code="field_not_allowed",
    )


def check_maxima(document: Mapping[str, Any], settings: Settings) -> None:
    """Check the values of the request's fields.

    Raises BadRequest: when a value is above its maximum.
    """
    for names, maximum in ((TOKENS, settings.max_tokens), (CHOICES, settings.max_n)):
        for name in names:
            if number(document.get(name)) > maximum:
                raise BadRequest(f"{name} must be at most {maximum}", param=name)
    for name, maximum in MAX_ITEMS.items():
        value = document.get(name)
        if isinstance(value, list | dict) and len(value) > maximum:
            raise BadRequest(f"{name} holds more than {maximum} items", param=name)
    for name in STRINGS:
        value = document.get(name)
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and len(text) > MAX_CHARACTERS for text in texts):
            raise BadRequest(
                f"{name} holds a text of more than {MAX_CHARACTERS} characters", param=name
            )
    prompts = document.get("prompt")
    if isinstance(prompts, list) and not is_tokens(prompts) and len(prompts) > MAX_PROMPTS:
        raise BadRequest(f"more than {MAX_PROMPTS} prompts", param="prompt")
    if number(cache_top_k(document)) > settings.max_cache_top_k:
        maximum = settings.max_cache_top_k
        raise BadRequest(f"top_k must be at most {maximum}", param="imagebind.cache.top_k")


def is_tokens(prompt: list[Any]) -> bool:
    """Whether `prompt` is a list of token ids, which is one prompt. vLLM checks its length."""
    return all(isinstance(token, int) for token in prompt)


def number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


def cache_top_k(document: Mapping[str, Any]) -> Any:
    value: Any = document
    for key in ("imagebind", "cache", "top_k"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
