"""Assemble the FastAPI application from its routes and middleware.

`bindserve serve`, the Ray deployment and the benchmarks all call `open_application`.
"""

import importlib
import inspect
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from fastapi import Depends, FastAPI
from opentelemetry.trace import get_tracer
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.utils.server_utils import lifespan
from vllm.entrypoints.serve.instrumentator.metrics import attach_router as attach_metrics
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from server.api import error_handlers, openapi
from server.api.body import check_body
from server.api.components import Components, Encoders, open_components
from server.api.grammar.constraint import open_checker
from server.api.middleware.admission import AdmissionMiddleware
from server.api.middleware.auth import AuthMiddleware, Keys
from server.api.middleware.body_limit import BodyLimitMiddleware
from server.api.middleware.body_time import BodyTimeMiddleware
from server.api.middleware.context import ContextMiddleware
from server.api.middleware.rate_limit import RateLimitMiddleware
from server.api.middleware.request_id import RequestIdMiddleware
from server.api.middleware.request_log import RequestLogMiddleware, to_standard_output
from server.api.middleware.traces import TraceMiddleware
from server.api.routes import embeddings as embedding_routes
from server.api.routes import files as file_routes
from server.api.routes import generate, health, models, responses_and_messages, tokenize
from server.api.state import state_of
from server.engine import flags
from server.settings import Settings

Engine = TypeVar("Engine", bound=EngineClient)

# Multipart bodies to these paths are streamed to disk.
UPLOAD_PATHS = ("/v1/files", "/v1/chat/completions")


@dataclass(frozen=True, slots=True)
class Application(Generic[Engine]):
    app: FastAPI
    engine: Engine
    # Stops the engine client. The components stay open.
    close_engine: Callable[[], Awaitable[None]]


@asynccontextmanager
async def open_application(
    settings: Settings,
    args: Namespace,
    engine: AbstractAsyncContextManager[Engine],
    encoders: Encoders,
    scratch: Path,
) -> AsyncIterator[Application[Engine]]:
    """Assemble an application, and close the engine and the components in the right order at the
    end.

    `args`: vLLM's parsed flags. `engine`: a context manager, opened after the encoders answer and
    closed before the other components. `scratch`: the folder for clients' files.
    Raises ConfigError, CacheError, KeyFileError.
    """
    import_parsers(args)
    keys = Keys(flags.api_keys(args), settings.api_key_file)
    file = settings.metrics_key_file
    metrics_keys = None if file is None else Keys(file=file)
    async with (
        open_components(settings, encoders, scratch) as components,
        AsyncExitStack() as opened,
    ):
        client = await opened.enter_async_context(engine)
        app = create_app(settings, args, components, keys, metrics_keys)
        state_of(app).grammars = await opened.enter_async_context(open_checker(client, settings))
        tasks = await client.get_supported_tasks()
        await init_app_state(client, app.state, args, tasks)
        yield Application(app, client, opened.aclose)


def import_parsers(args: Namespace) -> None:
    """Import the plugins of vLLM's --tool-parser-plugin and --reasoning-parser-plugin."""
    if args.tool_parser_plugin:
        ToolParserManager.import_tool_parser(args.tool_parser_plugin)
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)


def create_app(
    settings: Settings,
    args: Namespace,
    components: Components,
    keys: Keys,
    metrics_keys: Keys | None = None,
) -> FastAPI:
    """Create the application without opening components. `args`: vLLM's parsed flags. `keys`: the
    valid API keys. `metrics_keys`: the only keys that may read /metrics, or None.
    """
    hidden = args.disable_fastapi_docs
    app = FastAPI(
        title="bindserve",
        lifespan=lifespan,
        root_path=args.root_path or "",
        openapi_url=None if hidden else "/openapi.json",
    )
    state = state_of(app)
    state.settings, state.args, state.components = settings, args, components
    state.grammars = None
    error_handlers.install(app)
    openapi.install(app)
    add_routes(app)
    add_middleware(app, settings, args, components.text_only, keys, metrics_keys)
    return app


def add_routes(app: FastAPI) -> None:
    app.include_router(health.router)
    app.include_router(models.router)
    app.include_router(generate.router)
    app.include_router(responses_and_messages.router)
    app.include_router(embedding_routes.router)
    app.include_router(file_routes.router)
    app.include_router(tokenize.router, dependencies=[Depends(check_body)])
    attach_metrics(app)
    # vLLM adds /metrics both as a route and as a mount. Remove the mount, because it also responds
    # to other methods and to paths such as /metrics-x.
    app.router.routes[:] = [route for route in app.routes if not isinstance(route, Mount)]


def add_middleware(
    app: FastAPI,
    settings: Settings,
    args: Namespace,
    text_only: bytes,
    keys: Keys,
    metrics_keys: Keys | None,
) -> None:
    """Add the middleware, from the innermost to the outermost."""
    add_operator_middleware(app, args.middleware)
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_body_bytes,
        max_held_bytes=settings.max_held_bytes,
        upload_paths=UPLOAD_PATHS,
        max_upload_bytes=settings.max_upload_bytes,
    )
    app.add_middleware(
        BodyTimeMiddleware, min_rate=settings.body_min_rate, max_s=settings.body_timeout_s
    )
    if settings.max_requests:
        app.add_middleware(AdmissionMiddleware, max_requests=settings.max_requests)
    if settings.key_requests_per_minute or settings.key_concurrent:
        app.add_middleware(
            RateLimitMiddleware,
            per_minute=settings.key_requests_per_minute,
            concurrent=settings.key_concurrent,
        )
    app.add_middleware(AuthMiddleware, keys=keys, metrics_keys=metrics_keys)
    if settings.request_log:
        app.add_middleware(RequestLogMiddleware, write=to_standard_output())
    # With the flag --otlp-traces-endpoint, vLLM has already configured OpenTelemetry's exporter.
    if args.otlp_traces_endpoint:
        app.add_middleware(TraceMiddleware, tracer=get_tracer("bindserve"))
    app.add_middleware(ContextMiddleware, text_only=text_only)
    if args.allowed_origins:
        # CORS runs before AuthMiddleware, because a browser's preflight request has no API key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=args.allowed_origins,
            allow_credentials=args.allow_credentials,
            allow_methods=args.allowed_methods,
            allow_headers=args.allowed_headers,
        )
    app.add_middleware(RequestIdMiddleware)


def add_operator_middleware(app: FastAPI, names: Sequence[str]) -> None:
    """Add the middleware that vLLM's --middleware flag names: import paths of classes or coroutine
    functions.
    """
    for name in names:
        module, _, attribute = name.rpartition(".")
        imported = getattr(importlib.import_module(module), attribute)
        if inspect.isclass(imported):
            app.add_middleware(cast(Any, imported))
        elif inspect.iscoroutinefunction(imported):
            app.middleware("http")(imported)
        else:
            raise ValueError(f"--middleware {name}: neither a class nor a coroutine function")
