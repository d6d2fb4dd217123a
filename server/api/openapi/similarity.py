"""The bodies of /v1/score, /v1/rerank and /v1/search."""

from server.api.openapi.schema import Json, json_body, text_or_attachment

BODIES: Json = {
    "/v1/score": json_body("ScoreRequest"),
    "/v1/rerank": json_body("RerankRequest"),
    "/v1/search": json_body("SearchRequest"),
}
MODEL = {"type": ["string", "null"]}


def add_schemas(schemas: Json) -> None:
    item = text_or_attachment()
    mixed = {
        "anyOf": [item, {"type": "array", "items": item, "minItems": 1}, {"type": "object"}],
        "description": "A text, a content part, or a list of parts, whose embeddings are mixed.",
    }
    items = {"type": "array", "items": mixed, "minItems": 1}
    for name, required, properties in (
        ("ScoreRequest", [], score(mixed, items)),
        ("RerankRequest", ["query", "documents"], rerank(mixed, items)),
        ("SearchRequest", [], search(mixed)),
    ):
        schemas[name] = {"type": "object", "required": required, "properties": properties}


def score(mixed: Json, items: Json) -> Json:
    either = {"anyOf": [mixed, items]}
    return {"model": MODEL, "data_1": either, "data_2": either}


def rerank(mixed: Json, items: Json) -> Json:
    return {
        **{"model": MODEL, "query": mixed, "documents": items},
        **{"top_n": {"type": ["integer", "null"], "minimum": 0}},
        "return_documents": {"type": "boolean", "default": True},
    }


def search(mixed: Json) -> Json:
    value = {"type": ["string", "number", "boolean", "null"]}
    return {
        **{"model": MODEL, "input": mixed},
        "top_k": {"type": "integer", "minimum": 1, "default": 10},
        "filter": {
            "type": "object",
            "additionalProperties": {"anyOf": [value, {"type": "array", "items": value}]},
        },
    }
