"""Read the panels and queries of the dashboards, and run the queries on a Prometheus server."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
Points = list[tuple[float, float]]  # each point: (seconds since the epoch, value)


@dataclass(frozen=True, slots=True)
class Query:
    legend: str
    expression: str


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    unit: str
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    name: str
    title: str
    panels: tuple[Panel, ...]


def dashboards() -> Iterator[Dashboard]:
    for path in sorted(FOLDER.glob("*.json")):
        document = json.loads(path.read_text())
        yield Dashboard(path.stem, document["title"], tuple(map(read_panel, document["panels"])))


def read_panel(panel: dict[str, Any]) -> Panel:
    queries = tuple(Query(each["legendFormat"], each["expr"]) for each in panel["targets"])
    return Panel(panel["title"], panel["fieldConfig"]["defaults"]["unit"], queries)


class Prometheus:
    def __init__(self, url: str, *, rate_interval: str = "1m") -> None:
        """`rate_interval` replaces Grafana's $__rate_interval; it spans at least four scrapes."""
        self._url = url
        self._rate_interval = rate_interval

    def series(self, query: Query, start: float, end: float) -> dict[str, Points]:
        """Run a query over a time range. Returns a dict from legends to points.

        Raises HTTPError: when Prometheus rejects the query.
        """
        expression = query.expression.replace("$__rate_interval", self._rate_interval)
        step = max(1.0, (end - start) / 300)
        params = {"query": expression, "start": start, "end": end, "step": step}
        url = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(params)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            results = json.load(response)["data"]["result"]
        return {
            legend(query.legend, each["metric"]): [
                (at, float(value)) for at, value in each["values"]
            ]
            for each in results
        }


def legend(template: str, labels: dict[str, str]) -> str:
    """Insert the values of labels into a legend. As in Grafana, the value is empty if the series
    lacks the label.
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), template).strip()
