"""The application: which routes exist, and what every request passes on its way to them.

Built from finished parts; opens nothing. vLLM's `init_app_state` adds its handlers to the state.
"""

import importlib
import inspect
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, cast

from fastapi import Depends, FastAPI
from opentelemetry.trace import get_tracer
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from vllm.entrypoints.launchers.utils.server_utils import lifespan
from vllm.entrypoints.serve.instrumentator.metrics import attach_router as attach_metrics

from server.api import error_handlers, openapi
from server.api.body import refuse_fields
from server.api.components import Stages
from server.api.middleware.admission import AdmissionMiddleware
from server.api.middleware.auth import AuthMiddleware, Keys
from server.api.middleware.body_limit import BodyLimitMiddleware
from server.api.middleware.context import ContextMiddleware
from server.api.middleware.rate_limit import RateLimitMiddleware
from server.api.middleware.request_id import RequestIdMiddleware
from server.api.middleware.request_log import RequestLogMiddleware, to_standard_output
from server.api.middleware.traces import TraceMiddleware
from server.api.routes import embeddings as embedding_routes
from server.api.routes import files as file_routes
from server.api.routes import generate as routes
from server.api.routes import health, models
from server.api.routes import responses_and_messages as shapes
from server.api.routes import tokenize as vllm_routes
from server.settings import Settings

UPLOAD_PATHS = ("/v1/files", "/v1/chat/completions")  # they stream what they receive to disk


def create_app(settings: Settings, args: Namespace, stages: Stages, keys: Keys) -> FastAPI:
    """`args`: vLLM's parsed flags; its front-end ones apply here too. `keys`: who may come in."""
    hidden = args.disable_fastapi_docs
    app = FastAPI(
        title="bindserve",
        lifespan=lifespan,
        root_path=args.root_path or "",
        openapi_url=None if hidden else "/openapi.json",
    )
    app.state.settings, app.state.args, app.state.stages = settings, args, stages
    error_handlers.install(app)
    openapi.install(app)
    add_routes(app)
    add_middleware(app, settings, args, stages, keys)
    return app


def add_routes(app: FastAPI) -> None:
    app.include_router(health.router)
    app.include_router(models.router)
    app.include_router(routes.router)
    app.include_router(shapes.router)
    app.include_router(embedding_routes.router)
    app.include_router(file_routes.router)
    app.include_router(vllm_routes.router, dependencies=[Depends(refuse_fields)])
    attach_metrics(app)
    # /metrics is a route by now; vLLM's mount beside it answers every method, and /metrics-x too.
    app.router.routes[:] = [route for route in app.routes if not isinstance(route, Mount)]


def add_middleware(
    app: FastAPI, settings: Settings, args: Namespace, stages: Stages, keys: Keys
) -> None:
    """From the innermost to the outermost."""
    add_operators_own(app, args.middleware)
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_body_bytes,
        max_held_bytes=settings.max_held_bytes,
        upload_paths=UPLOAD_PATHS,
        max_upload_bytes=settings.max_upload_bytes,
    )
    if settings.max_requests:
        app.add_middleware(AdmissionMiddleware, most=settings.max_requests)
    if settings.key_requests_per_minute or settings.key_concurrent:
        app.add_middleware(
            RateLimitMiddleware,
            per_minute=settings.key_requests_per_minute,
            concurrent=settings.key_concurrent,
        )
    app.add_middleware(AuthMiddleware, keys=keys)
    if settings.request_log:
        app.add_middleware(RequestLogMiddleware, write=to_standard_output())
    if args.otlp_traces_endpoint:  # vLLM has told OpenTelemetry where spans go
        app.add_middleware(TraceMiddleware, tracer=get_tracer("bindserve"))
    app.add_middleware(ContextMiddleware, text_only=stages.text_only)
    if args.allowed_origins:
        app.add_middleware(  # outside of the keys: browsers send none when they ask beforehand
            CORSMiddleware,
            allow_origins=args.allowed_origins,
            allow_credentials=args.allow_credentials,
            allow_methods=args.allowed_methods,
            allow_headers=args.allowed_headers,
        )
    app.add_middleware(RequestIdMiddleware)


def add_operators_own(app: FastAPI, names: Sequence[str]) -> None:
    """vLLM's --middleware: import paths of classes or coroutine functions."""
    for name in names:
        module, _, attribute = name.rpartition(".")
        imported = getattr(importlib.import_module(module), attribute)
        if inspect.isclass(imported):
            app.add_middleware(cast(Any, imported))
        elif inspect.iscoroutinefunction(imported):
            app.middleware("http")(imported)
        else:
            raise ValueError(f"--middleware {name}: neither a class nor a coroutine function")
