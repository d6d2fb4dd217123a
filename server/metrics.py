"""Prometheus metrics of the stages before the engine. /metrics also returns vLLM's metrics.

Each stage (a timed step of a request) is also recorded in the request's timeline (context.py). A
label never contains a value that a client sends.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from server.context import Span, timeline

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

STAGE_SECONDS = Histogram(
    "bindserve_stage_seconds",
    "Time that one attachment (fetch, embed, decode, encode) or one request (other stages) spent "
    "in a stage and its queue. The time of embed includes decode and encode, or the wait for "
    "another request that embeds an equal file.",
    ["stage", "modality"],
    buckets=SECONDS,
)
STAGE_ERRORS = Counter(
    "bindserve_stage_errors_total", "Failures of a stage.", ["stage", "modality"]
)
IN_STAGE = Gauge(
    "bindserve_in_stage",
    "Attachments or requests that are in a stage or wait for it.",
    ["stage", "modality"],
    multiprocess_mode="livesum",
)
REFUSED = Counter(
    "bindserve_refused_total",
    "Requests rejected before their body was read, because the server was full.",
)
REJECTIONS = Counter(
    "bindserve_rejections_total",
    "Requests that got an error, by the error's code (its type if it has no code), and connections "
    "that were closed because the client did not read its response (slow_reader).",
    ["code"],
)
ATTACHMENTS = Counter("bindserve_attachments_total", "Attachments received.", ["modality"])
CONTENT_HITS = Counter(
    "bindserve_content_cache_hits_total",
    "Attachments whose embedding was in the result cache, or was being computed for another "
    "request with the same file.",
    ["modality"],
)
ENCODE_BATCH = Histogram(
    "bindserve_encode_batch_size",
    "Samples in one batch of an encoder.",
    ["encoder"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
RETRIEVALS = Counter(
    "bindserve_retrievals_total",
    "Requests by use of the retrieval cache: on, off (disabled for the request), unavailable "
    "(answered without the cache, because it failed), refused (rejected, because it failed).",
    ["state"],
)
CACHE_UP = Gauge(
    "bindserve_cache_up",
    "1 if the retrieval cache answers queries.",
    multiprocess_mode="livemin",
)

SIDE_UP = Gauge(
    "bindserve_side_up",
    "1 if the process of a side model answers.",
    ["side"],
    multiprocess_mode="livemin",
)
SIDE_WAITING = Gauge(
    "bindserve_side_waiting",
    "Requests that wait for a side model.",
    ["side"],
    multiprocess_mode="livemax",
)
SIDE_BATCH = Histogram(
    "bindserve_side_batch_size",
    "Requests in one batch of a side model.",
    ["side"],
    buckets=(1, 2, 4, 8, 16, 32),
)
SIDE_HITS = Counter(
    "bindserve_side_cache_hits_total",
    "Results of a side model that were stored or being computed, by content hash.",
    ["side"],
)

RESTARTS = Gauge(
    "bindserve_engine_restarts",
    "Restarts of the engine and API processes since the server started.",
    multiprocess_mode="livemax",
)


STALLED = Gauge(
    "bindserve_stalled_seconds",
    "Seconds without progress: engine (no step while requests run), encoding (no message of the "
    "encoding service).",
    ["part"],
    multiprocess_mode="livemax",
)


@dataclass(slots=True)
class Label:
    """The modality with which a stage is recorded. The `with` block can change it."""

    modality: str


@contextmanager
def stage(name: str, modality: str = "") -> Iterator[Label]:
    """Measure the time of the `with` block as the stage `name`.

    An exception counts as an error of the stage; a cancellation does not.
    """
    started, failed, label = time.perf_counter(), False, Label(modality)
    inside = IN_STAGE.labels(name, modality)
    inside.inc()
    try:
        yield label
    except Exception:
        failed = True
        raise
    finally:
        inside.dec()
        observe_stage(name, label.modality, time.perf_counter() - started, failed=failed)


def observe_stage(
    name: str, modality: str, seconds: float, *, failed: bool, ago: float = 0
) -> None:
    """Record a stage that took `seconds` and ended `ago` seconds before now."""
    STAGE_SECONDS.labels(name, modality).observe(seconds)
    if failed:
        STAGE_ERRORS.labels(name, modality).inc()
    timeline().spans.append(Span(name, modality, time.time() - ago - seconds, seconds, failed))


def count_attachment(modality: str) -> None:
    ATTACHMENTS.labels(modality).inc()
    timeline().attachments[modality] += 1
