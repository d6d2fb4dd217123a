"""The bodies and results of /v1/audio: transcription, translation and speech."""

from server.api.openapi.schema import BINARY, Json, add_schema, json_body
from server.api.routes.audio import PATHS
from server.api.routes.voice import PATH as SPEECH_PATH
from server.api.routes.voice import SpeechRequest
from server.api.speech.options import FORMATS, GRANULARITIES

TRANSCRIPTION: Json = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": BINARY,
        "model": {"type": "string"},
        "language": {"type": "string"},
        "prompt": {"type": "string"},
        "response_format": {"enum": list(FORMATS), "default": FORMATS[0]},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "stream": {"type": "boolean"},
        "timestamp_granularities[]": {"enum": sorted(GRANULARITIES)},
    },
}
TEXT: Json = {"schema": {"type": "string"}}
TRANSCRIPT: Json = {
    **{"text/plain": TEXT, "text/vtt": TEXT},
    "application/json": {"schema": {"type": "object"}},
    "text/event-stream": TEXT,
}
BODIES: Json = {
    **{path: {"multipart/form-data": {"schema": TRANSCRIPTION}} for path in PATHS},
    SPEECH_PATH: json_body("SpeechRequest"),
}
RESULTS: Json = {
    **dict.fromkeys(PATHS, TRANSCRIPT),
    SPEECH_PATH: {"audio/*": {"schema": BINARY}},
}


def add_schemas(schemas: Json) -> None:
    add_schema(schemas, "SpeechRequest", SpeechRequest)
