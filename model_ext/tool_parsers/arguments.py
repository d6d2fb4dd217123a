"""The line `Action Input:` of a call: plain values joined by commas, or JSON.

The chat template renders this line, and `parse_line` reads it. Reading a rendered line returns
equal JSON values.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

MAX_PLAIN = 3  # Maximum number of arguments of a plain tool.
MAX_NESTING = 32  # Maximum number of nested levels in JSON arguments that the chat template prints.


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
    """Return the arguments of a call as the text that OpenAI's API returns. The text is JSON if the
    line is well formed.

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
    """Return the value of a JSON string, or None if the text is not a JSON string."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def to_json(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def template_arguments(text: str) -> dict[str, Any]:
    """Return the arguments of an earlier call in the form that the chat template reads: a JSON
    object, or {"": text} if the text is not a JSON object or has too many levels.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"": text}
    # An object {"": value} is excluded, because the template would read it as a text.
    if isinstance(value, dict) and list(value) != [""] and levels(value) <= MAX_NESTING:
        return value
    return {"": text}


def levels(value: Any) -> int:
    """Count the levels of nested lists and objects. Stops at MAX_NESTING + 1."""
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
