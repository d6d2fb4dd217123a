"""/health (the process is alive) and /ready (it can answer requests), without API keys."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from server.api.error_handlers import error_response
from server.api.state import state_of
from server.errors import Unavailable

router = APIRouter()


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Respond with 503 after the engine has died, so that the process is restarted."""
    if state_of(request).engine_client.errored:
        return error_response(Unavailable("the engine is down", code="engine_down"))
    return JSONResponse({"status": "alive"})


@router.head("/ready", include_in_schema=False)
@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """Respond with 503 while a component is missing or the server drains. Running requests
    continue.
    """
    state = state_of(request)
    engine, components = state.engine_client, state.components
    if engine.errored:
        return error_response(Unavailable("the engine is down", code="engine_down"))
    if engine.draining:
        return error_response(Unavailable("the server is shutting down", code="draining"))
    if (stalled_s := engine.stalled_s()) >= state.settings.stall_s:
        message = f"not ready: the engine has made no step for {stalled_s:.0f} s"
        return error_response(Unavailable(message, code="engine_stalled"))
    if (missing := components.missing()) is not None:
        return error_response(Unavailable(f"not ready: {missing}", code="not_ready"))
    document = {"status": "ready"}
    if components.retriever.available:
        document["cache"] = "unavailable" if components.retriever.trouble else "on"
    # A missing side model does not make the server unready: other requests do not need it.
    for name, side in components.sides.items():
        document[name] = "on" if side.up else "unavailable"
    return JSONResponse(document)
