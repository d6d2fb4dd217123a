"""The body of /v1/batches."""

from server.api.openapi.schema import Json, json_body
from server.api.routes.batches import ENDPOINTS

TEXT = {"type": "string"}
EXPIRY = {
    "type": ["object", "null"],
    "required": ["anchor", "seconds"],
    "properties": {
        "anchor": {"const": "created_at"},
        "seconds": {"type": "integer", "minimum": 1},
    },
}
METADATA = {
    "type": ["object", "null"],
    "maxProperties": 16,
    "additionalProperties": {"type": "string", "maxLength": 512},
}
BODIES: Json = {"/v1/batches": json_body("BatchRequest")}


def add_schemas(schemas: Json) -> None:
    schemas["BatchRequest"] = {
        "type": "object",
        "required": ["input_file_id", "endpoint", "completion_window"],
        "properties": {
            "input_file_id": {**TEXT, "description": "The id of a file with the purpose batch."},
            "endpoint": {"enum": list(ENDPOINTS)},
            "completion_window": {**TEXT, "description": "1h to 24h, for example 24h."},
            "metadata": METADATA,
            "output_expires_after": EXPIRY,
        },
    }
