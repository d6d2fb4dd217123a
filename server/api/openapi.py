"""The OpenAPI document: what FastAPI finds out by itself, and what only we know.

Routes that read their bodies themselves are described here, attachments and all; every route lists
the errors that it may answer with, in the one shape that they have.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from server.api.routes.files import PURPOSES
from server.conditioning.options import ImageBindOptions
from server.media.attachments import MODALITIES, URL_PARTS

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"
ERRORS = {
    "400": "The request is not valid; `param` names the part at fault.",
    "401": "A valid API key is needed.",
    "403": "Not allowed.",
    "404": "There is no such model, file or path.",
    "405": "The path does not know this method.",
    "413": "The request, or a file in it, is too large.",
    "415": "The body, or a file in it, is of a kind that is not taken.",
    "429": "More than this API key may ask for; Retry-After says when to come back.",
    "500": "The server failed.",
    "501": "Not implemented.",
    "503": "Full, draining, or a part of the server is being restarted; see Retry-After.",
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
MODALITY = {"enum": list(MODALITIES), "description": "What the file is, if its kind misleads."}
UPLOAD: Json = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": 1},
    },
}


def install(app: FastAPI) -> None:
    """In place of FastAPI's own document."""

    def openapi() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = describe(
                get_openapi(title=app.title, version="1", routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def describe(document: Json) -> Json:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"], schemas["Attachment"] = ERROR, {"oneOf": parts()}
    for title, model in (
        ("ChatCompletionRequest", ChatCompletionRequest),
        ("CompletionRequest", CompletionRequest),
        ("ResponsesRequest", ResponsesRequest),
        ("AnthropicMessagesRequest", AnthropicMessagesRequest),
        ("AnthropicCountTokensRequest", AnthropicCountTokensRequest),
        ("ImageBindOptions", ImageBindOptions),
    ):
        add(schemas, title, model)
    extend_chat(schemas["ChatCompletionRequest"])
    extend_completion(schemas["CompletionRequest"])
    schemas["EmbeddingRequest"] = embedding_request()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"] = responses(path, method, operation["responses"])
    bodies(document["paths"])
    return document


def add(schemas: Json, title: str, model: type[BaseModel]) -> None:
    """A model of pydantic's, with those that it refers to."""
    schema = model.model_json_schema(ref_template=REFERENCE)
    for name, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(name, definition)
    schemas[title] = schema


def parts() -> list[Json]:
    """The content parts that condition the answer."""

    def part(kind: str, value: Json) -> Json:
        properties = {"type": {"const": kind}, kind: value, "weight": WEIGHT, "modality": MODALITY}
        return {"type": "object", "required": ["type", kind], "properties": properties}

    def with_keys(*required: str, **properties: Json) -> Json:
        return {"type": "object", "required": list(required), "properties": properties}

    text = {"type": "string"}
    url = {"type": "string", "description": "data:, attachment:// or, if allowed, https:"}
    numbers = {"oneOf": [{"type": "array", "items": {"type": "number"}}, text]}
    file = {"anyOf": [with_keys("file_id", file_id=text), with_keys("file_data", file_data=text)]}
    return [
        *(part(kind, with_keys("url", url=url)) for kind in URL_PARTS),
        part("input_audio", with_keys("data", data=text, format=text)),
        part("file", file),
        part("imagebind_text", with_keys("text", text=text)),
        part("imagebind_embedding", with_keys("data", data=numbers)),
    ]


def extend_chat(schema: Json) -> None:
    text = {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
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
        "properties": {"role": role, "content": content},
    }
    schema["properties"]["messages"] = {"type": "array", "items": message, "minItems": 1}
    schema["properties"]["imagebind"] = ref("ImageBindOptions")


def extend_completion(schema: Json) -> None:
    schema["properties"]["attachments"] = {"type": "array", "items": ref("Attachment")}
    schema["properties"]["imagebind"] = ref("ImageBindOptions")


def embedding_request() -> Json:
    one = {"anyOf": [{"type": "string"}, ref("Attachment")]}
    mixed = {"type": "array", "items": one, "minItems": 1}
    return {
        "type": "object",
        "required": ["input"],
        "properties": {
            "input": {"anyOf": [one, {"type": "array", "items": {"anyOf": [one, mixed]}}]},
            "model": {"type": ["string", "null"]},
            "encoding_format": {"enum": ["float", "base64"]},
            "dimensions": {"type": ["integer", "null"]},
            "imagebind": ref("ImageBindOptions"),
        },
    }


def bodies(paths: Json) -> None:
    """Of the routes that read them themselves."""
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
        "/v1/files": {"multipart/form-data": {"schema": UPLOAD}},
    }.items():
        paths[path]["post"]["requestBody"] = {"required": True, "content": content}


def responses(path: str, method: str, found: Json) -> Json:
    """What the route found, without 422, which does not exist here; and the errors."""
    kept = {status: answer for status, answer in found.items() if status == "200"}
    streams = path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
    if method == "post" and streams:
        kept["200"]["content"] = {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        }
    if path.endswith("/content"):
        binary = {"schema": {"type": "string", "format": "binary"}}
        kept["200"]["content"] = {"application/octet-stream": binary}
    if path == "/metrics":
        kept["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    error = {"application/json": {"schema": ref("Error")}}
    return kept | {s: {"description": text, "content": error} for s, text in ERRORS.items()}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
