"""Extend the OpenAPI document that FastAPI generates.

This module adds the schemas of attachments, the errors of every route, and the bodies of routes
that read their bodies without FastAPI.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from server.api.routes.audio import PATHS as AUDIO_PATHS
from server.api.routes.batches import ENDPOINTS
from server.api.routes.files import PURPOSES
from server.api.routes.images import ImageRequest
from server.api.routes.voice import PATH as SPEECH_PATH
from server.api.routes.voice import SpeechRequest
from server.api.speech.options import FORMATS, GRANULARITIES
from server.conditioning.options import ImageBindOptions
from server.media.attachments import CONTEXT, MODALITIES, URL_PARTS
from server.media.read_options import MAX_NORM

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"
ERRORS = {
    "400": "The request is not valid; `param` names the wrong field or part.",
    "401": "A valid API key is needed.",
    "403": "Not allowed.",
    "404": "There is no such model, file or path.",
    "405": "The path does not support this method.",
    "408": "The headers or the body arrive too slowly.",
    "413": "The request, or a file in it, is too large.",
    "415": "The type of the body, or of a file in it, is not supported.",
    "429": "Over the limit of this API key; Retry-After says when to try again.",
    "431": "The URL and the headers are too large, or there are too many headers.",
    "500": "The server failed.",
    "501": "Not implemented.",
    "503": "The server is full, draining or restarting; Retry-After says when to try again.",
}
NULLABLE = {"type": ["string", "null"]}
ERROR: Json = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": NULLABLE,
                "code": NULLABLE,
            },
        }
    },
}
WEIGHT = {"type": "number", "minimum": -1e6, "maximum": 1e6, "default": 1}
NORM = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": MAX_NORM,
    "description": "The vector's length before its normalisation, for pictures as answers.",
}
MODALITY = {"enum": list(MODALITIES), "description": "Overrides the file's detected modality."}
UPLOAD: Json = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": 1},
        "expires_after": {
            "type": "string",
            "description": "A JSON object with the keys `anchor` and `seconds`.",
        },
    },
}

TRANSCRIPTION: Json = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "model": {"type": "string"},
        "language": {"type": "string"},
        "prompt": {"type": "string"},
        "response_format": {"enum": list(FORMATS), "default": FORMATS[0]},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "stream": {"type": "boolean"},
        "timestamp_granularities[]": {"enum": sorted(GRANULARITIES)},
    },
}


def install(app: FastAPI) -> None:
    """Replace the application's OpenAPI document by the extended one."""

    def openapi() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = describe(
                get_openapi(title=app.title, version="1", routes=app.routes)
            )
        return app.openapi_schema

    # FastAPI documents this assignment as the way to extend the document.
    app.openapi = openapi  # type: ignore[method-assign]


def describe(document: Json) -> Json:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"], schemas["Attachment"] = ERROR, {"oneOf": parts()}
    add_schema(schemas, "ImageBindOptions", ImageBindOptions)
    add_schema(schemas, "SpeechRequest", SpeechRequest)
    if "/v1/chat/completions" in document["paths"]:
        add_language_model(schemas)
    schemas["EmbeddingRequest"] = embedding_request()
    schemas["ImageRequest"] = image_request()
    schemas |= similarity_requests()
    schemas["BatchRequest"] = batch_request()
    schemas["DetectionRequest"] = detection_request()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"] = responses(path, method, operation["responses"])
    add_bodies(document["paths"])
    return document


def add_language_model(schemas: Json) -> None:
    """Add vLLM's schemas, extended by the fields of this server."""
    from vllm.entrypoints.anthropic.protocol import (
        AnthropicCountTokensRequest,
        AnthropicMessagesRequest,
    )
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    for model in (
        ChatCompletionRequest,
        CompletionRequest,
        ResponsesRequest,
        AnthropicMessagesRequest,
        AnthropicCountTokensRequest,
    ):
        add_schema(schemas, model.__name__, model)
    extend_chat(schemas["ChatCompletionRequest"])
    extend_completion(schemas["CompletionRequest"])


def add_schema(schemas: Json, title: str, model: type[BaseModel]) -> None:
    """Add the schema of a pydantic model, and of the models that it refers to."""
    schema = model.model_json_schema(ref_template=REFERENCE)
    for name, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(name, definition)
    schemas[title] = schema


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


def extend_chat(schema: Json) -> None:
    text = {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"enum": ["text", CONTEXT]}, "text": {"type": "string"}},
    }
    content = {
        "anyOf": [
            {"type": ["string", "null"]},
            {"type": "array", "items": {"anyOf": [text, ref("Attachment")]}},
        ]
    }
    role = {"enum": ["system", "user", "assistant", "tool", "developer"]}
    message = {
        "type": "object",
        "required": ["role"],
        "properties": {
            **{"role": role, "content": content, "tool_call_id": {"type": "string"}},
            "tool_calls": {"type": "array", "items": {"type": "object"}},
        },
    }
    schema["properties"]["messages"] = {"type": "array", "items": message, "minItems": 1}
    modalities = {"type": ["array", "null"], "items": {"enum": ["text", "image"]}}
    schema["properties"]["modalities"] = modalities
    schema["properties"]["imagebind"] = ref("ImageBindOptions")


def extend_completion(schema: Json) -> None:
    schema["properties"]["attachments"] = {"type": "array", "items": ref("Attachment")}
    schema["properties"]["imagebind"] = ref("ImageBindOptions")


def embedding_request() -> Json:
    item = {"anyOf": [{"type": "string"}, ref("Attachment")]}
    mixed = {"type": "array", "items": item, "minItems": 1}
    return {
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


def image_request() -> Json:
    schema = ImageRequest.model_json_schema(ref_template=REFERENCE)
    item = {"anyOf": [{"type": "string"}, ref("Attachment")]}
    schema["properties"] |= {
        "input": {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]},
        "imagebind": ref("ImageBindOptions"),
    }
    return schema


def batch_request() -> Json:
    text = {"type": "string"}
    expiry = {
        "type": ["object", "null"],
        "required": ["anchor", "seconds"],
        "properties": {
            "anchor": {"const": "created_at"},
            "seconds": {"type": "integer", "minimum": 1},
        },
    }
    metadata = {
        "type": ["object", "null"],
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 512},
    }
    return {
        "type": "object",
        "required": ["input_file_id", "endpoint", "completion_window"],
        "properties": {
            "input_file_id": {**text, "description": "The id of a file with the purpose batch."},
            "endpoint": {"enum": list(ENDPOINTS)},
            "completion_window": {**text, "description": "1h to 24h, for example 24h."},
            "metadata": metadata,
            "output_expires_after": expiry,
        },
    }


def similarity_requests() -> Json:
    """The schemas of the bodies of /v1/score, /v1/rerank and /v1/search."""
    item = {"anyOf": [{"type": "string"}, ref("Attachment")]}
    mixed = {
        "anyOf": [item, {"type": "array", "items": item, "minItems": 1}, {"type": "object"}],
        "description": "A text, a content part, or a list of parts, whose embeddings are mixed.",
    }
    items = {"type": "array", "items": mixed, "minItems": 1}
    model = {"type": ["string", "null"]}
    value = {"type": ["string", "number", "boolean", "null"]}
    score = {
        "model": model,
        "data_1": {"anyOf": [mixed, items]},
        "data_2": {"anyOf": [mixed, items]},
    }
    rerank = {
        **{"model": model, "query": mixed, "documents": items},
        **{"top_n": {"type": ["integer", "null"], "minimum": 0}},
        "return_documents": {"type": "boolean", "default": True},
    }
    search = {
        **{"model": model, "input": mixed},
        "top_k": {"type": "integer", "minimum": 1, "default": 10},
        "filter": {
            "type": "object",
            "additionalProperties": {"anyOf": [value, {"type": "array", "items": value}]},
        },
    }
    return {
        name: {"type": "object", "required": required, "properties": properties}
        for name, required, properties in (
            ("ScoreRequest", [], score),
            ("RerankRequest", ["query", "documents"], rerank),
            ("SearchRequest", [], search),
        )
    }


def detection_request() -> Json:
    """The schema of the body of /v1/detections."""
    part = ref("Attachment")
    query = {"anyOf": [{"type": "string", "minLength": 1}, part]}
    return {
        "type": "object",
        "required": ["input", "queries"],
        "properties": {
            "model": {"type": ["string", "null"]},
            "input": {"anyOf": [part, {"type": "array", "items": part, "minItems": 1}]},
            "queries": {"type": "array", "items": query, "minItems": 1},
            "threshold": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        },
    }


def add_bodies(paths: Json) -> None:
    """Add the bodies of the routes that read their bodies without FastAPI."""
    chat = {
        "application/json": {"schema": ref("ChatCompletionRequest")},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["request"],
                "properties": {"request": ref("ChatCompletionRequest")},
                "additionalProperties": {"type": "string", "format": "binary"},
                "description": "Every other field is a file; attachment://FIELD refers to it.",
            }
        },
    }
    for path, content in {
        "/v1/chat/completions": chat,
        "/v1/completions": {"application/json": {"schema": ref("CompletionRequest")}},
        "/v1/responses": {"application/json": {"schema": ref("ResponsesRequest")}},
        "/v1/messages": {"application/json": {"schema": ref("AnthropicMessagesRequest")}},
        "/v1/messages/count_tokens": {
            "application/json": {"schema": ref("AnthropicCountTokensRequest")}
        },
        "/v1/embeddings": {"application/json": {"schema": ref("EmbeddingRequest")}},
        "/v1/images/generations": {"application/json": {"schema": ref("ImageRequest")}},
        "/v1/score": {"application/json": {"schema": ref("ScoreRequest")}},
        "/v1/rerank": {"application/json": {"schema": ref("RerankRequest")}},
        "/v1/search": {"application/json": {"schema": ref("SearchRequest")}},
        "/v1/detections": {"application/json": {"schema": ref("DetectionRequest")}},
        "/v1/files": {"multipart/form-data": {"schema": UPLOAD}},
        **{path: {"multipart/form-data": {"schema": TRANSCRIPTION}} for path in AUDIO_PATHS},
        SPEECH_PATH: {"application/json": {"schema": ref("SpeechRequest")}},
        "/v1/batches": {"application/json": {"schema": ref("BatchRequest")}},
    }.items():
        if path in paths:
            paths[path]["post"]["requestBody"] = {"required": True, "content": content}


def responses(path: str, method: str, documented: Json) -> Json:
    """Return a route's responses: status 200 from FastAPI's document, and this server's errors."""
    kept = {status: answer for status, answer in documented.items() if status == "200"}
    streams = path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
    if method == "post" and streams:
        kept["200"]["content"] = {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        }
    if path in AUDIO_PATHS:
        kept["200"]["content"] = {
            **{kind: {"schema": {"type": "string"}} for kind in ("text/plain", "text/vtt")},
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        }
    if path == SPEECH_PATH:
        kept["200"]["content"] = {"audio/*": {"schema": {"type": "string", "format": "binary"}}}
    if path.endswith(("/content", "/points")):
        binary = {"schema": {"type": "string", "format": "binary"}}
        kept["200"]["content"] = {"application/octet-stream": binary}
    if path == "/metrics":
        kept["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    error = {"application/json": {"schema": ref("Error")}}
    return kept | {s: {"description": text, "content": error} for s, text in ERRORS.items()}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
