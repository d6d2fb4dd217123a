"""Parts of schemas that the descriptions of several routes use."""

from typing import Any

from pydantic import BaseModel

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"
BINARY: Json = {"type": "string", "format": "binary"}


def ref(name: str) -> Json:
    return {"$ref": REFERENCE.format(model=name)}


def text_or_attachment() -> Json:
    return {"anyOf": [{"type": "string"}, ref("Attachment")]}


def json_body(name: str) -> Json:
    """Return the content of a JSON body with the schema `name`."""
    return {"application/json": {"schema": ref(name)}}


def add_schema(schemas: Json, title: str, model: type[BaseModel]) -> None:
    """Add the schema of a pydantic model, and of the models that it refers to."""
    schema = model.model_json_schema(ref_template=REFERENCE)
    for name, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(name, definition)
    schemas[title] = schema
