"""The retrieval service's Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cache_index.owner import IndexOwner

SECONDS = [0.0001 * 2**i for i in range(16)]  # histogram buckets from 0.1 ms to 3.3 s
SIZES = [2.0**i for i in range(9)]


class CacheMetrics:
    """The metrics of one service. Each service has a separate registry, because tests run several
    services in one process.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._batches = self._histogram("batch_size", "Queries searched together", SIZES)
        self._search = self._histogram("search_seconds", "One batch", SECONDS)
        self._requests = self._histogram("request_seconds", "A request, waiting included", SECONDS)
        self._answers = Counter(
            "bindserve_cache_answers", "Answers by status", ["status"], registry=self._registry
        )

    def _histogram(self, name: str, help: str, buckets: list[float]) -> Histogram:
        return Histogram(f"bindserve_cache_{name}", help, buckets=buckets, registry=self._registry)

    def watch(self, owner: IndexOwner) -> None:
        """Read the state of the owner's queue and index at each scrape."""
        waiting = Gauge("bindserve_cache_waiting", "Queries in line", registry=self._registry)
        waiting.set_function(lambda: owner.waiting)
        vectors = Gauge("bindserve_cache_vectors", "Rows of the index", registry=self._registry)
        vectors.set_function(lambda: len(owner.index))

    def batch(self, size: int, seconds: float) -> None:
        self._batches.observe(size)
        self._search.observe(seconds)

    def answered(self, seconds: float) -> None:
        self._answers.labels("200").inc()
        self._requests.observe(seconds)

    def refused(self, status: int) -> None:
        self._answers.labels(str(status)).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)
