"""The body of /v1/images/generations."""

from server.api.openapi.schema import REFERENCE, Json, json_body, ref, text_or_attachment
from server.api.routes.images import ImageRequest

BODIES: Json = {"/v1/images/generations": json_body("ImageRequest")}


def add_schemas(schemas: Json) -> None:
    schema = ImageRequest.model_json_schema(ref_template=REFERENCE)
    item = text_or_attachment()
    schema["properties"] |= {
        "input": {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]},
        "imagebind": ref("ImageBindOptions"),
    }
    schemas["ImageRequest"] = schema
