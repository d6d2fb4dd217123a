"""The line `Action Input:` of a call: plain values joined by commas, or JSON.

The chat template renders this line, and `parse_line` reads it. The pair is lossless as JSON values.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

MAX_PLAIN = 3  # maximum number of arguments of a plain tool
MAX_NESTING = 32  # maximum levels of JSON in the arguments that the chat template prints


def plain_names(schema: object) -> list[str]:
    """The names of a plain tool's arguments, in order. Empty for other tools.

    A plain tool has one to three arguments, which are all strings and all required.
    """
    fields = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(fields, Mapping) or not 1 <= len(fields) <= MAX_PLAIN:
        return []
    assert isinstance(schema, Mapping)
    required = schema.get("required")
    required = required if isinstance(required, list | tuple) else ()
    plain = all(
        isinstance(field, Mapping)
        and field.get("type") == "string"
        and name in required
        and name.splitlines() == [name]
        for name, field in fields.items()
    )
    return list(fields) if plain else []


def parse_line(line: str, names: Sequence[str]) -> str:
    """Return the arguments of a call as OpenAI's text, which is JSON if the line is well formed.

    `names`: the argument names of a plain tool. Empty for other tools.
    """
    line = line.strip()
    if line.startswith("{"):
        return line
    if line.startswith('"') and (value := json_string(line)) is not None:
        return value
    if names:
        values = (value.strip() for value in line.split(",", len(names) - 1))
        return to_json(dict(zip(names, values, strict=False)))
    return to_json({"input": line} if line else {})


def json_string(text: str) -> str | None:
    """The value of a JSON string, or None if the text is something else."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def to_json(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def template_arguments(text: str) -> dict[str, Any]:
    """The arguments of an earlier call as the chat template reads them: a JSON object, or
    {"": text} if the text is no JSON object, or one of too many levels.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"": text}
    # The template would read {"": value} as a text.
    if isinstance(value, dict) and list(value) != [""] and levels(value) <= MAX_NESTING:
        return value
    return {"": text}


def levels(value: Any) -> int:
    """The levels of lists and objects, counted to MAX_NESTING + 1."""
    count, containers = 0, [value]
    while containers and count <= MAX_NESTING:
        count += 1
        children = [
            each
            for container in containers
            for each in (container.values() if isinstance(container, dict) else container)
        ]
        containers = [each for each in children if isinstance(each, dict | list)]
    return count
