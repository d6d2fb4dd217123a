"""The bodies of chats, completions, Responses and Messages: vLLM's schemas, extended by the fields
of this server.
"""

from server.api.openapi.schema import BINARY, Json, add_schema, json_body, ref
from server.media.attachments import CONTEXT

FORM: Json = {
    "type": "object",
    "required": ["request"],
    "properties": {"request": ref("ChatCompletionRequest")},
    "additionalProperties": BINARY,
    "description": "Every other field is a file; attachment://FIELD refers to it.",
}
STREAMED: Json = {
    "application/json": {"schema": {"type": "object"}},
    "text/event-stream": {"schema": {"type": "string"}},
}
CHAT = "/v1/chat/completions"
BODIES: Json = {
    CHAT: json_body("ChatCompletionRequest") | {"multipart/form-data": {"schema": FORM}},
    "/v1/completions": json_body("CompletionRequest"),
    "/v1/responses": json_body("ResponsesRequest"),
    "/v1/messages": json_body("AnthropicMessagesRequest"),
    "/v1/messages/count_tokens": json_body("AnthropicCountTokensRequest"),
}
RESULTS: Json = dict.fromkeys((CHAT, "/v1/completions", "/v1/responses", "/v1/messages"), STREAMED)


def add_schemas(schemas: Json) -> None:
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
