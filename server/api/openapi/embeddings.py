"""The body of /v1/embeddings."""

from server.api.openapi.schema import Json, json_body, ref, text_or_attachment

BODIES: Json = {"/v1/embeddings": json_body("EmbeddingRequest")}


def add_schemas(schemas: Json) -> None:
    item = text_or_attachment()
    mixed = {"type": "array", "items": item, "minItems": 1}
    schemas["EmbeddingRequest"] = {
        "type": "object",
        "required": ["input"],
        "properties": {
            "input": {"anyOf": [item, {"type": "array", "items": {"anyOf": [item, mixed]}}]},
            "model": {"type": ["string", "null"]},
            "encoding_format": {"enum": ["float", "base64"]},
            "dimensions": {"type": ["integer", "null"]},
            "imagebind": ref("ImageBindOptions"),
        },
    }
