"""JSON schemas at OpenAI's published limits for structured outputs.

The limits: 5,000 object properties in total, 10 levels of nesting, 1,000 values in all enums,
120,000 characters of property names, definition names, values of enums and constants, and 15,000
characters in the values of an enum of more than 250 values.
"""

from typing import Any

Schema = dict[str, Any]
PROPERTIES, LEVELS, VALUES, CHARACTERS, VALUE_CHARACTERS = 5000, 10, 1000, 120_000, 15_000
TYPES: list[Schema] = [
    {"type": "string", "description": "x" * 40},
    {"type": ["string", "null"]},
    {"type": "integer", "minimum": 0, "maximum": 100},
    {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 1000},
]


def strict(properties: Schema, **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def largest() -> Schema:
    """A schema at all limits: each level has 498 properties of simple types, and one that is the
    next level.
    """
    schema: Schema = {}
    for level in range(LEVELS):
        names = [f"level{level}_field{i:03d}_name" for i in range(498)]
        properties = {name: TYPES[i % len(TYPES)] for i, name in enumerate(names)}
        schema = strict({**properties, "deeper": schema} if schema else properties)
    schema["properties"]["value"] = {
        "type": "string",
        "enum": [f"{i:04d}".ljust(VALUE_CHARACTERS // VALUES, "v") for i in range(VALUES)],
    }
    schema["required"].append("value")
    return schema


def long_names() -> Schema:
    """A schema whose property names and constants have 120,000 characters in total."""
    return strict({f"{i:04d}".ljust(1190, "n"): {"const": "c" * 10} for i in range(100)})


def long_values() -> Schema:
    """An enum of 250 values with about 120,000 characters. The limit of 15,000 characters applies
    only to enums with more than 250 values.
    """
    values = [f"{i:03d}".ljust(479, "v") for i in range(250)]
    return strict({"value": {"type": "string", "enum": values}})


def recursive() -> Schema:
    """OpenAI's two examples of recursive schemas: a reference to `#`, and a definition that refers
    to itself.
    """
    node = strict({"value": {"type": "number"}, "next": {"anyOf": [ref("node"), {"type": "null"}]}})
    children = {"type": "array", "items": {"$ref": "#"}}
    return strict({"label": {"type": "string"}, "list": ref("node"), "children": children}) | {
        "$defs": {"node": node}
    }


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def invoice() -> Schema:
    """A typical schema of an application, with formats, patterns, ranges, unions and
    definitions.
    """
    money = strict(
        {
            "amount": {"type": "number", "minimum": 0, "multipleOf": 0.01},
            "currency": {"type": "string", "enum": ["EUR", "USD", "JPY"]},
        }
    )
    address = strict(
        {
            "street": {"type": "string"},
            "postcode": {"type": "string", "pattern": "^[0-9]{5}(-[0-9]{4})?$"},
            "country": {"type": ["string", "null"], "pattern": "^[A-Z]{2}$"},
        }
    )
    line = strict(
        {
            "article": {"type": "string", "description": "The article's name."},
            "quantity": {"type": "integer", "minimum": 1, "maximum": 9999},
            "price": ref("money"),
        }
    )
    formats = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
    contact = strict(
        {name.replace("-", "_"): {"type": "string", "format": name} for name in formats}
    )
    payment = {
        "anyOf": [strict({"iban": {"type": "string"}}), strict({"card": {"type": "string"}})]
    }
    lines = {"type": "array", "items": ref("line"), "minItems": 1, "maxItems": 50}
    return strict(
        {
            "number": {"type": "string", "pattern": "^INV-[0-9]{1,10}$"},
            "seller": ref("address"),
            "contact": contact,
            "lines": lines,
            "total": ref("money"),
            "payment": payment,
        }
    ) | {"$defs": {"money": money, "address": address, "line": line}}


SCHEMAS = {make.__name__: make for make in (largest, long_names, long_values, recursive, invoice)}
