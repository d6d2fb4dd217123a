"""What Prometheus sees of the stages before the engine; vLLM's own metrics are on the same page.

Each stage is noted in its request's timeline, too (timeline.py). Every label takes few values,
none of them a client's.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from server.context import Span, timeline

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

STAGE_SECONDS = Histogram(
    "bindserve_stage_seconds",
    "Time that one attachment (fetch, embed, decode, encode) or one request (the others) spent in "
    "a stage, with the time in its queue. embed is decode and encode, or waiting for another's.",
    ["stage", "modality"],
    buckets=SECONDS,
)
STAGE_ERRORS = Counter(
    "bindserve_stage_errors_total", "Failures of a stage.", ["stage", "modality"]
)
IN_STAGE = Gauge(
    "bindserve_in_stage",
    "Attachments or requests in a stage now, those that wait for it included.",
    ["stage", "modality"],
    multiprocess_mode="livesum",
)
REFUSED = Counter(
    "bindserve_refused_total", "Requests refused before their body was read: the server is full."
)
ATTACHMENTS = Counter("bindserve_attachments_total", "Attachments that arrived.", ["modality"])
CONTENT_HITS = Counter(
    "bindserve_content_cache_hits_total",
    "Attachments whose embedding was known, or in flight, by the hash of their content.",
    ["modality"],
)
ENCODE_BATCH = Histogram(
    "bindserve_encode_batch_size",
    "Samples that one run of an encoder took.",
    ["encoder"],
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
RETRIEVALS = Counter(
    "bindserve_retrievals_total",
    "Requests by what the cache did: on, off (not wanted), unavailable (answered without it), "
    "refused.",
    ["state"],
)
CACHE_UP = Gauge(
    "bindserve_cache_up",
    "1 if the retrieval cache can be asked.",
    multiprocess_mode="livemin",
)

RESTARTS = Gauge(
    "bindserve_engine_restarts",
    "How often engine and API were started again since the server was started.",
    multiprocess_mode="livemax",
)


@contextmanager
def stage(name: str, modality: str = "") -> Iterator[None]:
    """Time what happens inside; an exception counts as an error of the stage, a client that
    leaves does not."""
    started, failed = time.perf_counter(), False
    inside = IN_STAGE.labels(name, modality)
    inside.inc()
    try:
        yield
    except Exception:
        failed = True
        raise
    finally:
        inside.dec()
        observe_stage(name, modality, time.perf_counter() - started, failed=failed)


def observe_stage(
    name: str, modality: str, seconds: float, *, failed: bool, ago: float = 0
) -> None:
    """A stage that ended `ago` seconds ago."""
    STAGE_SECONDS.labels(name, modality).observe(seconds)
    if failed:
        STAGE_ERRORS.labels(name, modality).inc()
    timeline().spans.append(Span(name, modality, time.time() - ago - seconds, seconds, failed))


def count_attachment(modality: str) -> None:
    ATTACHMENTS.labels(modality).inc()
    timeline().attachments[modality] += 1
