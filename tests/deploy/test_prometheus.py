"""promtool accepts the configuration and the rules; dashboards have a valid layout."""

import json
import re
import subprocess
from pathlib import Path
from shutil import which

import pytest
from prometheus_client import REGISTRY

from deploy.grafana.panels import dashboards, legend
from server.metrics import SIDE_UP

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
PROMETHEUS = DEPLOY / "prometheus"

needs_promtool = pytest.mark.skipif(
    which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)"
)


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@needs_promtool
def test_promtool_accepts_the_configuration() -> None:
    done = promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yaml")
    assert done.returncode == 0, done.stderr


@needs_promtool
def test_alerts_fire_at_their_conditions() -> None:
    done = promtool("test", "rules", PROMETHEUS / "alerts-test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    tests = (PROMETHEUS / "alerts-test.yaml").read_text()
    for line in (PROMETHEUS / "alerts.yaml").read_text().splitlines():
        if "- alert: " in line:
            assert f"alertname: {line.split('- alert: ')[1]}\n        exp_alerts:\n" in tests


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == path.stem
    cells = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in dashboard["panels"]
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(x < 24 for x, _ in cells)
    assert all(panel["description"] and panel["targets"] for panel in dashboard["panels"])


def test_a_legend_shows_the_labels_of_a_series() -> None:
    assert legend("{{stage}} {{modality}}", {"stage": "decode", "modality": "image"}) == (
        "decode image"
    )
    assert legend("{{stage}} {{modality}}", {"stage": "mix"}) == "mix"


def test_panels_of_side_models_use_metrics_that_exist() -> None:
    """`test_dashboards.py` runs a server without side models, so it cannot test these panels."""
    panels = [panel for dashboard in dashboards() for panel in dashboard.panels]
    queries = [query for p in panels if p.title.startswith("Side models") for query in p.queries]
    names = {name for q in queries for name in re.findall(r"bindserve_\w+", q.expression)}
    exported = {metric.name for metric in REGISTRY.collect()}
    assert SIDE_UP._name in exported
    assert {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in names} <= exported
    assert len(names) == 6
