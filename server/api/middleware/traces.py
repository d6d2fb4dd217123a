"""Record traces: one OpenTelemetry span per request, with a child span per stage before the engine.

vLLM's flag --otlp-traces-endpoint configures the exporter. This middleware writes the span's id
into the request's `traceparent` header, so that vLLM's span `llm_request` also becomes a child of
the request's span.
"""

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import inject
from opentelemetry.trace import SpanKind, StatusCode, Tracer, set_span_in_context
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from vllm.tracing import extract_trace_context

from server.api.middleware.rate_limit import UNLIMITED
from server.api.middleware.request_id import request_id
from server.api.middleware.request_log import Outcome, route, tokens
from server.api.middleware.route_path import route_path
from server.context import Span, current

# Maximum number of child spans of one request, because a request to /v1/embeddings may have
# thousands of attachments.
MAX_SPANS = 256


class TraceMiddleware:
    """Trace each request. Runs inside ContextMiddleware, and outside the middleware that can reject
    a request.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app = app
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) in UNLIMITED:
            return await self.app(scope, receive, send)
        headers = MutableHeaders(raw=list(scope["headers"]))
        span = self.tracer.start_span(
            scope["method"], extract_trace_context(headers), kind=SpanKind.SERVER
        )
        context = set_span_in_context(span)
        inject(headers, context)
        scope["headers"] = headers.raw
        outcome = Outcome()
        try:
            await outcome.observe(self.app, scope, receive, send)
        finally:
            for stage in current().timeline.spans[:MAX_SPANS]:
                self._add(stage, context)
            describe(span, scope, outcome)
            span.end()

    def _add(self, stage: Span, context: Context) -> None:
        """Add the span of a finished stage."""
        span = self.tracer.start_span(stage.stage, context, start_time=nanoseconds(stage.start))
        if stage.modality:
            span.set_attribute("bindserve.modality", stage.modality)
        if stage.failed:
            span.set_status(StatusCode.ERROR)
        span.end(nanoseconds(stage.start + stage.seconds))


def describe(span: trace.Span, scope: Scope, outcome: Outcome) -> None:
    """Set the span's attributes, with the names that OpenTelemetry defines."""
    span.set_attribute("http.request.method", scope["method"])
    span.set_attribute("http.response.status_code", outcome.status)
    span.set_attribute("bindserve.request_id", request_id(scope))
    if (pattern := route(scope)) is not None:
        span.update_name(f"{scope['method']} {pattern}")
        span.set_attribute("http.route", pattern)
    for name, count in tokens(scope).items():
        span.set_attribute(f"gen_ai.usage.{name}_tokens", count)
    if outcome.status >= 500:
        span.set_status(StatusCode.ERROR)


def nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
