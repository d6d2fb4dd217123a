"""The body of an upload to /v1/files, and the content of stored files."""

from server.api.openapi.schema import BINARY, Json
from server.api.routes.files import PURPOSES

UPLOAD: Json = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": BINARY,
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": 1},
        "expires_after": {
            "type": "string",
            "description": "A JSON object with the keys `anchor` and `seconds`.",
        },
    },
}
BODIES: Json = {"/v1/files": {"multipart/form-data": {"schema": UPLOAD}}}
RESULTS: Json = {
    f"/v1/files/{{file_id}}/{name}": {"application/octet-stream": {"schema": BINARY}}
    for name in ("content", "points")
}
