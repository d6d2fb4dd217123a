"""The listener for Weaviate (`--weaviate HOST:PORT`): an application with Weaviate's paths only.

Weaviate's client sends no API key, so this listener needs none. It has the limits of the main
listener, and sends errors as {"error": "text"}.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api import error_handlers
from server.api.limits.headers import limited_protocol
from server.api.middleware.context import ContextMiddleware
from server.api.middleware.request_id import RequestIdMiddleware
from server.api.middleware.stack import add_limits
from server.api.routes import vectorize
from server.api.state import state_of
from server.engine.exposure import weaviate_address
from server.settings import Settings

BACKLOG = 1024
GRACE_S = 30  # When the server stops, running requests have this many seconds to finish.


def create_weaviate_app(main: FastAPI) -> ASGIApp:
    """Create the application. It uses the components and the limits of the application `main`."""
    app = FastAPI(title="bindserve for Weaviate", openapi_url=None)
    state, shared = state_of(app), state_of(main)
    state.settings, state.args, state.components = shared.settings, shared.args, shared.components
    state.engine_client = shared.engine_client
    state.reading = shared.reading
    state.vectorize_places = asyncio.Semaphore(vectorize.MAX_CONCURRENT)
    error_handlers.install(app, language_model=False)
    app.include_router(vectorize.router)
    # A body may be as large as an upload, because a request may contain a thousand pictures.
    add_limits(app, shared, max_body_bytes=state.settings.max_upload_bytes)
    app.add_middleware(ContextMiddleware, text_only=state.components.text_only)
    app.add_middleware(RequestIdMiddleware)
    # Wrap the whole application, because its outermost middleware writes the responses with status
    # 500.
    return ErrorTextMiddleware(app)


class ErrorTextMiddleware:
    """Replace the error object of each error response by a text: {"error": {...}} by {"error":
    "..."}.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start: Message | None = None
        content = b""

        async def replaced(message: Message) -> None:
            nonlocal start, content
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
            elif start is None:
                await send(message)
            else:
                content += message.get("body", b"")
                if not message.get("more_body"):
                    text = error_text(content)
                    headers = [each for each in start["headers"] if each[0] != b"content-length"]
                    headers.append((b"content-length", str(len(text)).encode()))
                    await send({**start, "headers": headers})
                    await send({"type": "http.response.body", "body": text})

        await self.app(scope, receive, replaced)


def error_text(content: bytes) -> bytes:
    """Convert the body of an error from OpenAI's format to {"error": "text"}. Returns any other
    body unchanged, for example the empty body after the client has disconnected.
    """
    try:
        error = json.loads(content)["error"]
    except (ValueError, TypeError, LookupError):
        return content
    if not isinstance(error, dict):
        return content
    message, param = error["message"], error["param"]
    text = f"{param}: {message}" if param and param not in message else message
    return json.dumps({"error": text}).encode()


@contextlib.asynccontextmanager
async def open_weaviate(main: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Answer Weaviate's requests until the context ends, if the operator set `--weaviate`.

    Several API processes listen on the same port. Raises OSError: when the port is in use.
    """
    if settings.weaviate is None:
        yield
        return
    host, port = weaviate_address(settings)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(BACKLOG)
    config = uvicorn.Config(
        create_weaviate_app(main),
        http=limited_protocol(settings),
        forwarded_allow_ips=list(settings.trusted_proxies),
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=GRACE_S,
        access_log=False,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        yield
    finally:
        await server.shutdown(sockets=[listener])
