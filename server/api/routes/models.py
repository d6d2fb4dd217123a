"""/v1/models in OpenAI's format, with each model's modalities and the origin of its weights."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from server.api.state import state_of
from server.errors import NotFound

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> JSONResponse:
    return JSONResponse({"object": "list", "data": await cards(request)})


@router.get("/v1/models/{name:path}")
async def retrieve_model(request: Request, name: str) -> JSONResponse:
    for card in await cards(request):
        if card["id"] == name:
            return JSONResponse(card)
    raise NotFound(f"the model {name!r} does not exist", param="model", code="model_not_found")


async def cards(request: Request) -> list[dict[str, Any]]:
    state = state_of(request)
    listed = await state.openai_serving_models.show_available_models()
    described = [card.model_dump(mode="json") for card in listed.data]
    for card in described:
        card["root"] = card["id"]  # replaces the path of the model folder, which vLLM returns
        card["owned_by"] = "bindserve"
        card["imagebind"] = state.components.description
    return described
