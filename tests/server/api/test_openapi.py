"""The OpenAPI document describes the application's routes."""

import json
import re
from typing import Any

import pytest

from server.media.attachments import CONTEXT, PART_TYPES, TEXT_PARTS
from tests.server.application import serve


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    document: dict[str, Any] = serve().app.openapi()
    return document


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= document["components"]["schemas"].keys()


def test_every_attachment_that_is_read_is_described(document: dict[str, Any]) -> None:
    described = document["components"]["schemas"]["Attachment"]["oneOf"]
    kinds = {part["properties"]["type"]["const"] for part in described}
    assert kinds == set(PART_TYPES) - TEXT_PARTS - {CONTEXT}


def test_errors_have_one_shape_everywhere_and_422_is_none(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            error = operation["responses"]["503"]["content"]["application/json"]["schema"]
            assert error == {"$ref": "#/components/schemas/Error"}


async def test_an_error_has_the_documented_schema() -> None:
    served = serve()
    schema = served.app.openapi()["components"]["schemas"]["Error"]["properties"]["error"]
    response = await served.client.post("/v1/chat/completions", json={})
    assert response.json()["error"].keys() == set(schema["required"])


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/score", "/v1/rerank", "/v1/search"])
def test_routes_that_read_their_bodies_describe_them(document: dict[str, Any], path: str) -> None:
    assert document["paths"][path]["post"]["requestBody"]["required"]
