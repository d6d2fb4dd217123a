"""The schemas of attachments and of a request's object `imagebind`, which many routes use."""

from server.api.openapi.schema import Json, add_schema
from server.conditioning.options import ImageBindOptions
from server.media.attachments import MODALITIES, URL_PARTS
from server.media.read_options import MAX_NORM

WEIGHT = {"type": "number", "minimum": -1e6, "maximum": 1e6, "default": 1}
NORM = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": MAX_NORM,
    "description": "The vector's length before its normalisation, for pictures as answers.",
}
MODALITY = {"enum": list(MODALITIES), "description": "Overrides the file's detected modality."}


def add_schemas(schemas: Json) -> None:
    schemas["Attachment"] = {"oneOf": parts()}
    add_schema(schemas, "ImageBindOptions", ImageBindOptions)


def parts() -> list[Json]:
    """The schemas of the content parts that are attachments (images, sounds and so on)."""

    def part(name: str, value: Json) -> Json:
        properties = {"type": {"const": name}, name: value, "weight": WEIGHT, "modality": MODALITY}
        return {"type": "object", "required": ["type", name], "properties": properties}

    def with_keys(*required: str, **properties: Json) -> Json:
        return {"type": "object", "required": list(required), "properties": properties}

    text = {"type": "string"}
    url = {"type": "string", "description": "data:, attachment:// or, if allowed, https:"}
    numbers = {"oneOf": [{"type": "array", "items": {"type": "number"}}, text]}
    file = {"anyOf": [with_keys("file_id", file_id=text), with_keys("file_data", file_data=text)]}
    embedding = part("imagebind_embedding", with_keys("data", data=numbers))
    embedding["properties"]["norm"] = NORM
    return [
        *(part(name, with_keys("url", url=url)) for name in URL_PARTS),
        part("input_audio", with_keys("data", data=text, format=text)),
        part("file", file),
        part("imagebind_text", with_keys("text", text=text)),
        embedding,
    ]
