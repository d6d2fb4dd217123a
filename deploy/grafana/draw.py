"""Draw the panels of the Grafana dashboards from the data of a Prometheus server, as PNG files.

python -m deploy.grafana.draw --prometheus http://127.0.0.1:9090 --minutes 10 FOLDER
"""

import argparse
import math
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from deploy.grafana.panels import Dashboard, Panel, Points, Prometheus, dashboards

COLUMNS = 3
# A panel shows the ten series with the highest peaks, because matplotlib has ten colours.
MAX_SERIES = 10
UNITS = {"s": "s", "reqps": "1/s", "percentunit": "%", "bytes": "MB", "Bps": "MB/s", "none": ""}
FACTORS = {"percentunit": 100.0, "bytes": 1e-6, "Bps": 1e-6}


def draw(dashboard: Dashboard, prometheus: Prometheus, start: float, end: float, out: Path) -> None:
    """Draw one dashboard. `start` and `end`: seconds since the epoch; `out`: folder."""
    rows = math.ceil(len(dashboard.panels) / COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(15, 2.6 * rows), squeeze=False)
    for axes in grid.flat[len(dashboard.panels) :]:
        axes.set_visible(False)
    for panel, axes in zip(dashboard.panels, grid.flat, strict=False):
        series: dict[str, Points] = {}
        for query in panel.queries:
            series |= prometheus.series(query, start, end)
        draw_panel(axes, panel, series, start)
    figure.suptitle(dashboard.title)
    figure.tight_layout()
    figure.savefig(out / f"{dashboard.name}.png", dpi=70)
    plt.close(figure)


def draw_panel(axes: Axes, panel: Panel, series: dict[str, Points], start: float) -> None:
    factor = FACTORS.get(panel.unit, 1.0)
    largest = sorted(series, key=lambda name: peak(series[name]), reverse=True)[:MAX_SERIES]
    for name in sorted(largest):
        at = [(time - start) / 60 for time, _ in series[name]]
        axes.plot(at, [value * factor for _, value in series[name]], label=name, lw=1.2)
    axes.set_title(f"{panel.title} [{UNITS[panel.unit]}]" if UNITS[panel.unit] else panel.title)
    axes.set_xlabel("minutes", fontsize=8)
    highest = factor * max(map(peak, series.values()), default=0.0)
    axes.set_ylim(0, (highest or 1.0) * (1.3 + 0.1 * (len(largest) // 2)))  # space for the legend
    axes.spines[["top", "right"]].set_visible(False)
    if series:
        axes.legend(fontsize=7, frameon=False, ncols=2, loc="upper left")


def peak(points: Points) -> float:
    return max((value for _, value in points if math.isfinite(value)), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--prometheus", default="http://127.0.0.1:9090", help="its URL (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="how much of the past to draw (default: 10)"
    )
    parser.add_argument(
        "--rate-interval",
        default="1m",
        help="value of Grafana's $__rate_interval, at least four scrapes (default: 1m)",
    )
    parser.add_argument("out", type=Path, help="folder for the PNG files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    end = time.time()
    prometheus = Prometheus(options.prometheus, rate_interval=options.rate_interval)
    for dashboard in dashboards():
        draw(dashboard, prometheus, end - 60 * options.minutes, end, options.out)


if __name__ == "__main__":
    main()
