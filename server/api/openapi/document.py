"""Extend the OpenAPI document that FastAPI generates.

FastAPI does not see the bodies that routes read without it, and the errors. The other modules of
this folder describe them, each for one group of routes.
"""

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.api.openapi import (
    attachments,
    audio,
    batches,
    detections,
    embeddings,
    files,
    generation,
    images,
    responses,
    similarity,
)
from server.api.openapi.schema import Json

BODIES: Json = {
    **generation.BODIES,
    **embeddings.BODIES,
    **images.BODIES,
    **similarity.BODIES,
    **detections.BODIES,
    **files.BODIES,
    **audio.BODIES,
    **batches.BODIES,
}
RESULTS: Json = {
    **generation.RESULTS,
    **files.RESULTS,
    **audio.RESULTS,
    "/metrics": {"text/plain": {"schema": {"type": "string"}}},
}


def extend_openapi(app: FastAPI) -> None:
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
    paths = document["paths"]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    responses.add_schemas(schemas)
    attachments.add_schemas(schemas)
    audio.add_schemas(schemas)
    if generation.CHAT in paths:  # the server has a language model
        generation.add_schemas(schemas)
    embeddings.add_schemas(schemas)
    images.add_schemas(schemas)
    similarity.add_schemas(schemas)
    batches.add_schemas(schemas)
    detections.add_schemas(schemas)
    responses.add_responses(paths, RESULTS)
    for path in paths.keys() & BODIES.keys():
        paths[path]["post"]["requestBody"] = {"required": True, "content": BODIES[path]}
    return document
