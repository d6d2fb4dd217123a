"""Test every panel of every dashboard, and every alert, with the metrics of a real server.

The services of compose.yaml run as processes. A real Prometheus scrapes them with its configuration
while clients load the server for half a minute.
"""

import json
import math
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from deploy.grafana.panels import Panel, Prometheus, Query, dashboards
from deploy.loadtest.outcome import Outcome
from deploy.loadtest.scenarios import MIXES
from tests.deploy.offer import offer
from tests.deploy.stack import Stack, stack

RATE, LOAD_S = 4, 36
# Some of the requests must be hostile, and some must have videos.
MIX = {**MIXES["all"], "hostile": 2, "video": 1}
RATE_INTERVAL = "20s"  # the value that Grafana uses if Prometheus scrapes every 5 s
QUERIES = [
    pytest.param(panel, query, id=f"{dashboard.name}-{panel.title}-{query.legend}")
    for dashboard in dashboards()
    for panel in dashboard.panels
    for query in panel.queries
    if not panel.title.startswith("Side models")  # the server in these tests has no side models
]

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(which("prometheus") is None, reason="prometheus is not installed"),
]


@dataclass(frozen=True, slots=True)
class Loaded:
    stack: Stack
    outcomes: list[Outcome]
    start: float  # `start` and `end` are in seconds since the epoch.
    end: float

    def pages(self) -> dict[str, str]:
        """Return the /metrics texts of the server and the retrieval service, by secret name."""
        return {
            name: get(f"{url}/metrics", self.stack.secret(name))
            for name, url in (
                *(("metrics-key", self.stack.server), ("cache-token", self.stack.cache)),
            )
        }

    def api(self, path: str) -> Any:
        return json.loads(get(f"{self.stack.prometheus}/api/v1/{path}"))["data"]


def get(url: str, key: str = "none") -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        text: str = response.read().decode()
        return text


@pytest.fixture(scope="module")
def loaded(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("stack")
    with stack(folder, tiny_models["finetune"], tiny_models["knn.index"]) as running:
        start = time.time()
        key = running.client_key()
        outcomes = offer(running.server, RATE, LOAD_S, model="demo", mix=MIX, key=key)
        time.sleep(6)  # wait until Prometheus has scraped again
        yield Loaded(running, outcomes, start, time.time())


def test_the_load_was_served(loaded: Loaded) -> None:
    """The server answers most requests; otherwise the panels would show only rejections."""
    assert len(loaded.outcomes) > RATE * LOAD_S / 2
    failed = [outcome for outcome in loaded.outcomes if outcome.failed]
    assert not failed


def test_prometheus_reaches_both_services(loaded: Loaded) -> None:
    targets = loaded.api("targets")["activeTargets"]
    health = {each["labels"]["job"]: (each["health"], each["lastError"]) for each in targets}
    assert health == {"bindserve": ("up", ""), "bindserve-cache": ("up", "")}
    scrapes = Prometheus(loaded.stack.prometheus).series(
        Query("{{job}}", "count_over_time(up[1m])"), loaded.end - 5, loaded.end
    )
    assert all(points[-1][1] >= 10 for points in scrapes.values())


def test_prometheus_evaluates_every_rule(loaded: Loaded) -> None:
    (group,) = loaded.api("rules")["groups"]
    health = {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in group["rules"]}
    assert len(health) >= 8
    assert set(health.values()) == {("ok", "")}


@pytest.mark.parametrize(("panel", "query"), QUERIES)
def test_every_query_returns_data(loaded: Loaded, panel: Panel, query: Query) -> None:
    prometheus = Prometheus(loaded.stack.prometheus, rate_interval=RATE_INTERVAL)
    series = prometheus.series(query, loaded.start, loaded.end)
    values = [value for points in series.values() for _, value in points]
    assert any(math.isfinite(value) for value in values), f"{panel.title}: {query.expression}"
    assert all(series), "a series in the panel has no name: it has none of the labels in the legend"


def test_promtool_accepts_the_configuration_with_its_secrets(loaded: Loaded) -> None:
    path = loaded.stack.folder / "prometheus" / "prometheus.yaml"
    done = subprocess.run(["promtool", "check", "config", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_metric_names_follow_prometheus_conventions(loaded: Loaded) -> None:
    """promtool reports problems only of vLLM's metrics, whose names start with `vllm:`."""
    for name, page in loaded.pages().items():
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=page, capture_output=True, text=True
        )
        # promtool exits with 3 if it reports problems, and with 1 if the text has no metrics.
        assert done.returncode in (0, 3), done.stderr
        complaints = re.findall(r"^(\S+) .+$", done.stderr, re.MULTILINE)
        ours = [each for each in complaints if not each.startswith("vllm:")]
        assert not ours, f"{name}: {done.stderr}"
