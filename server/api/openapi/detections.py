"""The body of /v1/detections."""

from server.api.openapi.schema import Json, json_body, ref

BODIES: Json = {"/v1/detections": json_body("DetectionRequest")}


def add_schemas(schemas: Json) -> None:
    part = ref("Attachment")
    query = {"anyOf": [{"type": "string", "minLength": 1}, part]}
    schemas["DetectionRequest"] = {
        "type": "object",
        "required": ["input", "queries"],
        "properties": {
            "model": {"type": ["string", "null"]},
            "input": {"anyOf": [part, {"type": "array", "items": part, "minItems": 1}]},
            "queries": {"type": "array", "items": query, "minItems": 1},
            "threshold": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        },
    }
