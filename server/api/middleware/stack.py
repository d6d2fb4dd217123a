"""Add the middleware to the application, from the innermost to the outermost."""

import importlib
import inspect
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any, cast

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from server.api.limits.turns import TurnMiddleware
from server.api.middleware.admission import AdmissionMiddleware
from server.api.middleware.auth import OPEN_PATHS, AuthMiddleware, Keys
from server.api.middleware.body_limit import BodyLimitMiddleware
from server.api.middleware.body_time import BodyTimeMiddleware
from server.api.middleware.context import ContextMiddleware
from server.api.middleware.rate_limit import UNLIMITED, KeyUsage, RateLimitMiddleware
from server.api.middleware.request_id import RequestIdMiddleware
from server.api.middleware.request_log import RequestLogMiddleware, to_standard_output
from server.api.routes import audio, page
from server.api.state import AppState, state_of

# Multipart bodies to these paths are streamed to disk.
UPLOAD_PATHS = ("/v1/files", "/v1/chat/completions", *audio.PATHS)


def add_middleware(app: FastAPI, args: Namespace, keys: Keys, metrics_keys: Keys | None) -> None:
    """Add all middleware. `args`: vLLM's parsed flags."""
    state = state_of(app)
    settings = state.settings

    def is_open(path: str) -> bool:
        """Whether a path needs no API key."""
        return path in OPEN_PATHS or (settings.page and page.is_page(path))

    add_operator_middleware(app, args.middleware)
    add_limits(
        app,
        state,
        max_body_bytes=settings.max_body_bytes,
        upload_paths=UPLOAD_PATHS,
        max_upload_bytes=settings.max_upload_bytes,
        usage=state.key_usage,
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
    app.add_middleware(ContextMiddleware, text_only=state.components.text_only)
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


def add_limits(
    app: FastAPI,
    state: AppState,
    *,
    max_body_bytes: int,
    upload_paths: Sequence[str] = (),
    max_upload_bytes: int = 0,
    usage: dict[str, KeyUsage] | None = None,
    is_open: Callable[[str], bool] = UNLIMITED.__contains__,
) -> None:
    """Add the limits of requests: their bodies, their number, and the limits of each API key.

    `state`: has what all applications of this process share. `usage`, `is_open`: as for
    RateLimitMiddleware.
    """
    settings = state.settings
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=max_body_bytes,
        held=state.held_bytes,
        upload_paths=upload_paths,
        max_upload_bytes=max_upload_bytes,
    )
    app.add_middleware(TurnMiddleware, turns=state.turns)
    app.add_middleware(
        BodyTimeMiddleware, min_rate=settings.body_min_rate, max_s=settings.body_timeout_s
    )
    if settings.max_requests:
        app.add_middleware(AdmissionMiddleware, running=state.running)
    if settings.key_requests_per_minute or settings.key_concurrent:
        app.add_middleware(
            RateLimitMiddleware,
            per_minute=settings.key_requests_per_minute,
            concurrent=settings.key_concurrent,
            usage=usage,
            is_open=is_open,
        )


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
