"""The responses of all routes: this server's errors, and the content of the status 200."""

from collections.abc import Mapping

from server.api.openapi.schema import Json, json_body

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


def add_schemas(schemas: Json) -> None:
    schemas["Error"] = ERROR


def add_responses(paths: Json, results: Mapping[str, Json]) -> None:
    """Replace the responses of every route by status 200 of FastAPI's document and this server's
    errors. `results`: path -> content of status 200, for routes whose content FastAPI does not see.
    """
    errors = {
        status: {"description": text, "content": json_body("Error")}
        for status, text in ERRORS.items()
    }
    for path, operations in paths.items():
        for operation in operations.values():
            documented = operation["responses"].items()
            kept = {status: answer for status, answer in documented if status == "200"}
            if path in results:
                kept["200"]["content"] = results[path]
            operation["responses"] = kept | errors
