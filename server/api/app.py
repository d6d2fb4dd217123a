"""Assemble the FastAPI application from its routes and middleware.

`bindserve serve`, the Ray deployment and the benchmarks all call `open_application`.
"""

from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fastapi import FastAPI

from server.api import encoders_alone, error_handlers
from server.api.batches.assembly import create_runner
from server.api.batches.runner import running
from server.api.components import Components, Encoders, open_components
from server.api.middleware.auth import Keys
from server.api.middleware.rate_limit import new_usage
from server.api.middleware.stack import add_middleware
from server.api.openapi.document import extend_openapi
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
from server.fairness.share import FairShare
from server.fairness.turns import Turns
from server.settings import Settings

Engine = TypeVar("Engine")


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
    extend_openapi(app)
    add_routes(app, components)
    add_middleware(app, args, keys, metrics_keys)
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
