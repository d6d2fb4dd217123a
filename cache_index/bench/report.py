"""The results of `bindserve bench cache`, as text."""

from dataclasses import dataclass

from cache_index.bench.load import Load
from cache_index.bench.pairs import Ratio, as_table
from cache_index.bench.speed import Speed
from cache_index.recall import TOP_K

LOAD = 0.8  # request rate of the latency test, divided by the rate with concurrent clients


@dataclass(frozen=True, slots=True)
class Built:
    """The cost of building the cache. All values are 0 if the cache existed already."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_gb: float = 0.0  # peak memory of this process until the end of the build

    def text(self) -> str:
        if not self.seconds:
            return ""
        return (
            f"built in {self.seconds:.0f} s ({self.cpu_seconds:.0f} s of CPU) with "
            f"{self.peak_gb:.1f} GB of memory at most, including mapped files; "
        )


@dataclass(frozen=True, slots=True)
class Report:
    rows: int
    dimension: int
    threads: int
    clients: int
    kind: str
    search: str  # Name of the search algorithm and its device.
    settings: str
    recall: float  # Recall@10 on queries that tuning did not use.
    recall_one_cell: (
        float | None
    )  # Recall with one visited cell; low if the data are hard to search.
    built: Built
    index_gb: float
    ratios: tuple[Ratio, ...]
    speeds: tuple[Speed, ...]
    load: Load

    def text(self) -> str:
        return "\n".join(
            (
                f"{self.rows} x {self.dimension}, {self.kind} ({self.settings}), {self.threads} "
                f"threads, {self.clients} clients; {self.built.text()}index {self.index_gb:.2f} GB",
                f"searched by: {self.search}",
                f"recall@{TOP_K} on unseen queries: {self.recall:.4f}{self.hardness()}",
                "",
                as_table(self.ratios),
                "",
                self.speed_table(),
                "",
                f"At {LOAD:.0%} load ({self.load.rate:.0f}/s): p50 {self.load.p50_ms:.2f} ms, "
                f"p99 {self.load.p99_ms:.2f} ms",
            )
        )

    def speed_table(self) -> str:
        lines = ["| batch | queries/s | queries/s of the index alone |", "|---:|---:|---:|"]
        lines += [
            f"| {s.batch} | {s.queries_per_s:.0f} | {s.candidates_per_s:.0f} |" for s in self.speeds
        ]
        return "\n".join(lines)

    def hardness(self) -> str:
        cell = self.recall_one_cell
        return "" if cell is None else f" (with one visited cell: {cell:.4f})"
