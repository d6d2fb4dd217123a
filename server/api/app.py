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

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from server.api import encoders_alone, error_handlers, openapi
from server.api.batches.assembly import create_runner
from server.api.batches.runner import running
from server.api.components import Components, Encoders, open_components
from server.api.middleware.admission import AdmissionMiddleware
from server.api.middleware.auth import OPEN_PATHS, AuthMiddleware, Keys
from server.api.middleware.body_limit import BodyLimitMiddleware
from server.api.middleware.body_time import BodyTimeMiddleware
from server.api.middleware.context import ContextMiddleware
from server.api.middleware.rate_limit import RateLimitMiddleware, new_usage
from server.api.middleware.request_id import RequestIdMiddleware
from server.api.middleware.request_log import RequestLogMiddleware, to_standard_output
from server.api.middleware.turns import TurnMiddleware
from server.api.routes import (
    audio,
    detections,
    health,
    images,
    models,
    page,
    similarity,
    voice,
)
from server.api.routes import batches as batch_routes
from server.api.routes import embeddings as embedding_routes
from server.api.routes import files as file_routes
from server.api.state import state_of
from server.engine.exposure import api_keys
from server.fairness import FairShare
from server.settings import Settings
from server.turns import Turns

Engine = TypeVar("Engine")

# Multipart bodies to these paths are streamed to disk.
UPLOAD_PATHS = ("/v1/files", "/v1/chat/completions", *audio.PATHS)


@dataclass(frozen=True, slots=True)
class Application(Generic[Engine]):
    app: FastAPI
    engine: Engine  # the engine client, or `NoEngine` without a language model

    # `close_engine` stops the engine client. The components stay open.
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
    closed before the other components; it yields a `NoEngine` if there is no language model.
    `scratch`: the folder for clients' files.
    Raises ConfigError, CacheError, KeyFileError.
    """
    keys = Keys(api_keys(args), settings.api_key_file)
    file = settings.metrics_key_file
    metrics_keys = None if file is None else Keys(file=file)
    async with (
        open_components(settings, encoders, scratch) as components,
        AsyncExitStack() as opened,
    ):
        if components.language_model:
            import_parsers(args)
        client = await opened.enter_async_context(engine)
        app = create_app(settings, args, components, keys, metrics_keys)
        await opened.enter_async_context(connected(app, client, settings, args))
        await opened.enter_async_context(running(state_of(app).batches))
        yield Application(app, client, opened.aclose)


def import_parsers(args: Namespace) -> None:
    from server.api import language_model  # this import loads vLLM

    language_model.import_parsers(args)


@asynccontextmanager
async def connected(
    app: FastAPI, engine: Any, settings: Settings, args: Namespace
) -> AsyncIterator[None]:
    """Write the engine's client and its request handlers into the application's state."""
    state = state_of(app)
    if state.components.language_model:
        from server.api import language_model  # this import loads vLLM

        async with language_model.connected(app, engine, settings, args):
            yield
        return
    state.engine_client = engine
    state.openai_serving_models = encoders_alone.EncoderModels(settings.name)
    yield


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
        lifespan=lifespan_of(components),
        root_path=args.root_path or "",
        openapi_url=None if hidden else "/openapi.json",
    )
    state = state_of(app)
    state.settings, state.args, state.components = settings, args, components
    state.grammars = None
    state.prompt_limits = None
    state.running = FairShare(settings.max_requests)
    state.key_usage = new_usage(settings.key_requests_per_minute)
    state.held_bytes = FairShare(settings.max_held_bytes)
    state.reading = Turns()
    state.turns = Turns()
    state.batches = create_runner(app, settings, components.files, state.running)
    error_handlers.install(app, language_model=components.language_model)
    openapi.install(app)
    add_routes(app, components)
    add_middleware(app, settings, args, components, keys, metrics_keys)
    return app


def lifespan_of(components: Components) -> Any:
    """vLLM's lifespan, which logs the engine's statistics; None without a language model."""
    if not components.language_model:
        return None
    from server.api.language_model import lifespan  # this import loads vLLM

    return lifespan


def add_routes(app: FastAPI, components: Components) -> None:
    app.include_router(health.router)
    app.include_router(models.router)
    app.include_router(embedding_routes.router)
    app.include_router(similarity.router)
    app.include_router(images.router)
    app.include_router(detections.router)
    app.include_router(file_routes.router)
    app.include_router(batch_routes.router)
    app.include_router(audio.router)
    app.include_router(voice.router)
    settings = state_of(app).settings
    if settings.page:
        page.add_page(app, settings.page_examples)
    if components.language_model:
        from server.api import language_model  # this import loads vLLM

        language_model.add_routes(app)
        language_model.add_metrics(app)
    else:
        encoders_alone.add_routes(app)


def add_middleware(
    app: FastAPI,
    settings: Settings,
    args: Namespace,
    components: Components,
    keys: Keys,
    metrics_keys: Keys | None,
) -> None:
    """Add the middleware, from the innermost to the outermost."""

    def is_open(path: str) -> bool:
        """Whether a path needs no API key."""
        return path in OPEN_PATHS or (settings.page and page.is_page(path))

    add_operator_middleware(app, args.middleware)
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_body_bytes,
        held=state_of(app).held_bytes,
        upload_paths=UPLOAD_PATHS,
        max_upload_bytes=settings.max_upload_bytes,
    )
    app.add_middleware(TurnMiddleware, turns=state_of(app).turns)
    app.add_middleware(
        BodyTimeMiddleware, min_rate=settings.body_min_rate, max_s=settings.body_timeout_s
    )
    if settings.max_requests:
        app.add_middleware(AdmissionMiddleware, running=state_of(app).running)
    if settings.key_requests_per_minute or settings.key_concurrent:
        app.add_middleware(
            RateLimitMiddleware,
            per_minute=settings.key_requests_per_minute,
            concurrent=settings.key_concurrent,
            usage=state_of(app).key_usage,
            is_open=is_open,
        )
    app.add_middleware(AuthMiddleware, keys=keys, metrics_keys=metrics_keys, is_open=is_open)
    if settings.request_log:
        app.add_middleware(RequestLogMiddleware, write=to_standard_output())
    # With the flag --otlp-traces-endpoint, vLLM has already configured OpenTelemetry's exporter.
    if args.otlp_traces_endpoint:
        from opentelemetry.trace import get_tracer

        from server.api.middleware.traces import TraceMiddleware  # this import loads vLLM

        app.add_middleware(TraceMiddleware, tracer=get_tracer("bindserve"))
    app.add_middleware(ContextMiddleware, text_only=components.text_only)
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
