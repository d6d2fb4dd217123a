"""Limits on a request's fields: which of vLLM's fields clients may set, and their largest values.

`body.py` checks every request for the model here, before anything else reads it. Values of a wrong
type are left to the protocol's own checks. vLLM itself limits `logprobs` (--max-logprobs).
"""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from server.errors import BadRequest
from server.settings import EngineField, Settings

ENGINE_FIELDS: tuple[EngineField, ...] = get_args(EngineField)
TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens")
CHOICES = ("n", "best_of")
# Lists and mappings that the sampler, or the output, walks through for every token.
MOST_ITEMS = {
    "stop": 16,
    "stop_sequences": 16,
    "stop_token_ids": 64,
    "bad_words": 64,
    "allowed_token_ids": 1024,
    "logit_bias": 1024,
    "tools": 128,
}
STRINGS = ("stop", "stop_sequences", "bad_words")
MOST_CHARACTERS = 256  # of one of these strings
MOST_PROMPTS = 64  # of one request to /v1/completions


def check_engine_fields(document: Mapping[str, Any], allowed: Collection[str]) -> None:
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


def check_caps(document: Mapping[str, Any], settings: Settings) -> None:
    """BadRequest names the field and its cap."""
    for names, most in ((TOKENS, settings.max_tokens), (CHOICES, settings.max_n)):
        for name in names:
            if number(document.get(name)) > most:
                raise BadRequest(f"{name} must be at most {most}", param=name)
    for name, most in MOST_ITEMS.items():
        value = document.get(name)
        if isinstance(value, list | dict) and len(value) > most:
            raise BadRequest(f"{name} holds more than {most} items", param=name)
    for name in STRINGS:
        value = document.get(name)
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and len(text) > MOST_CHARACTERS for text in texts):
            raise BadRequest(
                f"{name} holds a text of more than {MOST_CHARACTERS} characters", param=name
            )
    prompts = document.get("prompt")
    if isinstance(prompts, list) and not is_tokens(prompts) and len(prompts) > MOST_PROMPTS:
        raise BadRequest(f"more than {MOST_PROMPTS} prompts", param="prompt")
    if number(cache_top_k(document)) > settings.max_cache_top_k:
        most = settings.max_cache_top_k
        raise BadRequest(f"top_k must be at most {most}", param="imagebind.cache.top_k")


def is_tokens(prompt: list[Any]) -> bool:
    """One prompt as token ids; its length is the model's business."""
    return all(isinstance(token, int) for token in prompt)


def number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0


def cache_top_k(document: Mapping[str, Any]) -> Any:
    value: Any = document
    for key in ("imagebind", "cache", "top_k"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
