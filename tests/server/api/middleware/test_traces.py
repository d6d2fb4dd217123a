"""Traces: a request's span has its stages and vLLM's span as children, and the caller's span as
parent.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from vllm.tracing import extract_trace_headers

from tests.server.api.exchanges import CHAT, HELLO, answer, image
from tests.server.application import Handler, Served, serve

CALLER = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


class TracedHandler(Handler):
    """A fake of vLLM's handler, which records the headers that vLLM would pass to the engine."""

    headers: dict[str, str]

    async def create(self, request: Any, raw_request: Any) -> Any:
        self.headers = dict(extract_trace_headers(raw_request.headers))
        return await super().create(request, raw_request)

    create_chat_completion = create


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Records spans. Replaces the tracer provider, because vLLM sets the provider only once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


@pytest.fixture
async def served(exporter: InMemorySpanExporter) -> AsyncIterator[Served]:
    assert not exporter.get_finished_spans()
    served = serve(flags={"otlp_traces_endpoint": "http://127.0.0.1:1"})
    served.app.state.openai_serving_chat = TracedHandler(answer())
    async with served.client:
        yield served


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_stages_and_the_engine_are_below_the_request(
    served: Served, exporter: InMemorySpanExporter
) -> None:
    body = {"messages": [{"role": "user", "content": [image(0)]}]}
    await served.client.post(CHAT, json=body, headers={"traceparent": CALLER})
    children = spans(exporter)
    whole = children.pop(f"POST {CHAT}")
    assert children.keys() == {"attachments", "embed", "retrieve"}
    assert whole.parent is not None
    assert whole.parent.span_id == 0x0123456789ABCDEF
    assert whole.attributes is not None
    assert whole.attributes["http.response.status_code"] == 200
    for span in children.values():
        assert span.parent == whole.context
        # The clocks of a stage's span and of a request's span may differ by a millisecond.
        assert (whole.start_time or 0) - 1e6 <= (span.start_time or 0) <= (span.end_time or 0)
        assert (span.end_time or 0) <= (whole.end_time or 0) + 1e6
    assert children["embed"].attributes == {"bindserve.modality": "text"}
    engine = served.app.state.openai_serving_chat.headers["traceparent"]
    assert whole.context is not None
    assert engine == f"00-{whole.context.trace_id:032x}-{whole.context.span_id:016x}-01"


async def test_a_failed_request_has_an_error_status(
    served: Served, exporter: InMemorySpanExporter
) -> None:
    bad = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    await served.client.post(CHAT, json={"messages": [{"role": "user", "content": [bad]}]})
    served.app.state.openai_serving_chat = Handler(KeyError("x"))
    await served.client.post(CHAT, json={"messages": HELLO})
    rejected, failed = (s for s in exporter.get_finished_spans() if s.name == f"POST {CHAT}")
    # A client's error does not set the status of the span; a server's error does.
    assert rejected.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR


async def test_a_path_that_does_not_exist_gives_no_name(
    served: Served, exporter: InMemorySpanExporter
) -> None:
    await served.client.get("/v1/secret")
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET"
    assert "secret" not in span.to_json()


@pytest.mark.parametrize("path", ["/health", "/metrics"])
async def test_probes_are_not_traced(
    served: Served, exporter: InMemorySpanExporter, path: str
) -> None:
    await served.client.get(path)
    assert not exporter.get_finished_spans()


async def test_off_by_default(exporter: InMemorySpanExporter) -> None:
    await serve().client.get("/v1/models")
    assert not exporter.get_finished_spans()
