"""The application of a model that has only encoders: its list of models, metrics and 404 responses.

Does not import vLLM.
"""

import time
from dataclasses import dataclass, field

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from pydantic import BaseModel

from server.errors import NotFound

# Paths that exist only on a server with a language model.
LANGUAGE_MODEL_PATHS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"),
    *("/v1/messages/count_tokens", "/tokenize", "/detokenize"),
)

router = APIRouter()


@dataclass(slots=True)
class NoEngine:
    """Replaces vLLM's engine client, for the routes that need no language model."""

    draining: bool = False  # whether the server is shutting down
    errored: bool = False

    def stalled_s(self) -> float:
        return 0


class EncoderCard(BaseModel):
    """The model's entry in the response of /v1/models, with the fields that OpenAI defines."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "bindserve"


class EncoderCards(BaseModel):
    data: list[EncoderCard]


@dataclass(frozen=True, slots=True)
class EncoderModels:
    """Replaces vLLM's list of models, for the routes that need no language model."""

    name: str
    created: int = field(default_factory=lambda: int(time.time()))

    def is_base_model(self, name: str) -> bool:
        return name == self.name

    async def show_available_models(self) -> EncoderCards:
        return EncoderCards(data=[EncoderCard(id=self.name, created=self.created)])


def add_routes(app: FastAPI) -> None:
    for path in LANGUAGE_MODEL_PATHS:
        app.add_api_route(path, reject, methods=["POST"], include_in_schema=False)
    app.include_router(router)


async def reject() -> None:
    raise NotFound(
        "this server has no language model, only encoders; use the route embeddings",
        code="no_language_model",
    )


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
