"""Limits on the fields of a request: which vLLM fields clients may set, and the maximum values.

`body.py` calls these checks for every request that uses the model, before other code reads the
request. This module does not check types, because vLLM's protocol classes check the types.
`grammar/limits.py` checks the grammars and JSON schemas in a request.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, get_args

from pydantic import BaseModel

from server.errors import BadRequest
from server.settings import EngineField, Settings

ENGINE_FIELDS: tuple[EngineField, ...] = get_args(EngineField)
# Variables of the chat template that only the server sets.
TEMPLATE_TEXTS = ("contexts", "attachments", "tool_prose")
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
MAX_CHARACTERS = 256  # Maximum length of one text in the fields that STRINGS lists.
MAX_PROMPTS = 64  # Maximum number of prompts in one request to /v1/completions.
INT32 = 2**31 - 1
# Field -> its smallest and largest value. The engine stores these fields in 32 bits.
RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "top_k": (-1, INT32),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0, 100),
    "length_penalty": (-100, 100),
    "logprobs": (-1, INT32),
    "top_logprobs": (-1, INT32),
    "prompt_logprobs": (-1, INT32),
    "stream_interval": (1, INT32),
    "priority": (-INT32, INT32),
    "thinking_token_budget": (-1, INT32),
    "truncate_prompt_tokens": (-1, INT32),
    "routed_experts_prompt_start": (0, INT32),
    "dimensions": (1, INT32),
}
# Fields that are lists of token ids. An id must fit into 32 bits.
TOKEN_LISTS = (
    *("prompt", "tokens", "stop_token_ids", "allowed_token_ids", "logprob_token_ids"),
    *("trace_decode_token_ids", "prompt_token_ids"),
)
REPETITION = ("max_pattern_size", "min_pattern_size", "min_count")
# Maximum of each field of `repetition_detection`, because the engine detects repetitions at every
# token.
MAX_REPETITION = 1024

# The largest absolute value of an integer in a request: vLLM sends integers to the engine with 64
# bits.
MAX_INTEGER = 2**63 - 1

# Field whose value is any JSON object of the client -> the largest integer in this object. vLLM
# sends JSON schemas to the engine as msgpack, with 64-bit integers, and other objects as text.
OBJECTS: Mapping[str, float] = {
    "schema": 2**64 - 1,
    "json_schema": 2**64 - 1,
    "json": 2**64 - 1,
    "parameters": math.inf,
    "input_schema": math.inf,
    "input": math.inf,  # the arguments of a tool call
    "chat_template_kwargs": math.inf,
}
LISTS_OF_CONTENT = frozenset({"input", "messages", "prompt", "tools"})
FIELD = re.compile("[A-Za-z_][A-Za-z0-9_]{0,63}")
MAX_PATH = 8  # maximum number of names and indexes in the `param` of an error

# The position of a value in the document: (position of its object or list, key or index). None is
# the whole document.
Path = tuple[Any, str | int] | None


def check_engine_fields(document: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Check that the operator allows the vLLM fields that the request sets.

    Raises BadRequest: when the operator does not allow a field, or only the server sets it.
    """
    for field in ENGINE_FIELDS:
        if field not in allowed and document.get(field) is not None:
            raise not_allowed(field)
    kwargs = document.get("chat_template_kwargs")
    if not isinstance(kwargs, dict):
        return
    for key in TEMPLATE_TEXTS:
        if key in kwargs:
            raise BadRequest(
                f"the server sets chat_template_kwargs.{key}; "
                "send texts for the Input slot as parts of type context",
                param=f"chat_template_kwargs.{key}",
                code="field_not_allowed",
            )
    if "chat_template" not in allowed:
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
                f"{name} contains a text of more than {MAX_CHARACTERS} characters", param=name
            )
    prompts = document.get("prompt")
    if isinstance(prompts, list) and not is_tokens(prompts) and len(prompts) > MAX_PROMPTS:
        raise BadRequest(f"more than {MAX_PROMPTS} prompts", param="prompt")
    check_ranges(document)
    if number(cache_top_k(document)) > settings.max_cache_top_k:
        maximum = settings.max_cache_top_k
        raise BadRequest(f"top_k must be at most {maximum}", param="imagebind.cache.top_k")


def check_ranges(fields: Mapping[str, Any]) -> None:
    """Check that the numbers fit the engine's types. `fields`: a JSON object, or values that
    pydantic has parsed.

    Raises BadRequest: when a number is outside its field's range.
    """
    for name, (low, high) in RANGES.items():
        value = fields.get(name)
        if value is not None and not low <= number(value, default=low) <= high:
            raise BadRequest(f"{name} must be between {low} and {high}", param=name)
    for name in TOKEN_LISTS:
        ids = fields.get(name)
        for index, each in enumerate(ids if isinstance(ids, list) else ()):
            if not -INT32 <= number(each) <= INT32:
                raise BadRequest(f"{name}[{index}] is too large a number", param=f"{name}[{index}]")
    detection = fields.get("repetition_detection")
    numbers = (
        dict(items_of(detection)) if isinstance(detection, dict) or is_dataclass(detection) else {}
    )
    for name in REPETITION:
        if not 0 <= number(numbers.get(name)) <= MAX_REPETITION:
            raise BadRequest(
                f"{name} must be between 0 and {MAX_REPETITION}",
                param=f"repetition_detection.{name}",
            )


def check_values(document: Any, maximum: float = MAX_INTEGER) -> None:
    """Check all strings and numbers of a document, without recursion.

    Raises BadRequest: for a string that is not valid Unicode, an integer that is too large, NaN or
    infinity.
    """
    containers: list[tuple[Any, Path, float]] = [(document, None, maximum)]
    while containers:
        container, path, maximum = containers.pop()
        for key, value in items_of(container):
            if isinstance(key, str) and not is_unicode(key):
                raise not_unicode(path)
            if isinstance(value, str):
                if not is_unicode(value):
                    raise not_unicode((path, key))
            elif isinstance(value, int):
                if value > maximum or (value < -MAX_INTEGER and maximum < math.inf):
                    name = field_name((path, key))
                    raise BadRequest(f"{name or 'an integer'} is too large a number", param=name)
            elif isinstance(value, float):
                if not math.isfinite(value):
                    name = field_name((path, key))
                    raise BadRequest(f"{name or 'a number'} is not a finite number", param=name)
            elif isinstance(value, dict | list | BaseModel) or is_dataclass(value):
                containers.append((value, (path, key), max(maximum, maximum_in(path, key))))


def check_parsed(request: BaseModel) -> None:
    """Check the numbers that pydantic has parsed from strings. Raises BadRequest."""
    fields = {name: value for name, value in request if name not in LISTS_OF_CONTENT}
    check_values(fields)
    check_ranges(fields)


def items_of(container: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(container, list):
        return enumerate(container)
    return container.items() if isinstance(container, dict) else container.__dict__.items()


def maximum_in(path: Path, key: str | int) -> float:
    """Return the largest integer that the object in a field may contain. 0 if the field is not in
    OBJECTS.
    """
    if path is None and key != "chat_template_kwargs":
        return 0  # `input` in OBJECTS is that of a tool call, not the top-level field
    return OBJECTS.get(key, 0) if isinstance(key, str) else 0


def is_unicode(text: str) -> bool:
    """Whether the text is valid Unicode. A JSON string may contain half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def not_unicode(path: Path) -> BadRequest:
    name = field_name(path)
    return BadRequest(
        f"{name or 'a name'} is not valid Unicode (half a surrogate pair)", param=name
    )


def field_name(path: Path) -> str | None:
    """Return the field's name, e.g. messages[0].content.

    The name ends before the first key that is not an identifier.
    """
    keys: list[str | int] = []
    while path is not None:
        path, key = path
        keys.append(key)
    name = ""
    for key in keys[::-1][:MAX_PATH]:
        if isinstance(key, int):
            name += f"[{key}]"
        elif FIELD.fullmatch(key):
            name += f".{key}" if name else key
        else:
            break
    return name or None


def is_tokens(prompt: list[Any]) -> bool:
    """Whether `prompt` is a list of token ids. Such a list is one prompt, whose length vLLM
    checks.
    """
    return all(isinstance(token, int) for token in prompt)


def number(value: Any, default: float = 0) -> float:
    """Convert a value to a number.

    Like pydantic, also accepts strings such as "5". Returns `default` if the value is not a number.
    """
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return default
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def cache_top_k(document: Mapping[str, Any]) -> Any:
    value: Any = document
    for key in ("imagebind", "cache", "top_k"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
