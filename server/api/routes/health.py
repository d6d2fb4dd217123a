"""/health: is the process alive? /ready: should it get requests now? No key needed, no details."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from server.api.error_handlers import respond
from server.api.state import state_of
from server.errors import Unavailable

router = APIRouter()


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """503 once the engine is dead, which is final: restart the process."""
    if state_of(request).engine_client.errored:
        return respond(Unavailable("the engine is down", code="engine_down"))
    return JSONResponse({"status": "alive"})


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """503 while a part is missing or the server drains; requests that run go on."""
    engine, components = state_of(request).engine_client, request.app.state.components
    if engine.errored:
        return respond(Unavailable("the engine is down", code="engine_down"))
    if engine.draining:
        return respond(Unavailable("the server is shutting down", code="draining"))
    if (missing := components.missing()) is not None:
        return respond(Unavailable(f"not ready: {missing}", code="not_ready"))
    told = {"status": "ready"}
    if components.retriever.available:
        told["cache"] = "unavailable" if components.retriever.trouble else "on"
    return JSONResponse(told)
