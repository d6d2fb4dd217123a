"""Plot transfer tables: one bar per modality and state of the cache, a mark for each seed.

    python -m model_ext.demo.plot build/demo/table-pretrain*.json --out transfer.png

Knows the files that `evaluate.py` writes. Needs matplotlib (extra `plot`).
"""

import argparse
import json
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from model_ext.demo.splits import CONCEPTS

STATES = {"off": "without cache", "on": "with cache", "shuffled": "shuffled cache"}
COLORS = ("#9db4c0", "#2a6f97", "#d9d9d9")


def plot(tables: list[dict[str, dict[str, float]]], out: Path) -> None:
    """tables: one for each seed, kind -> state -> share of right answers."""
    kinds = list(tables[0])
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(STATES)
    for number, (state, label) in enumerate(STATES.items()):
        places = [place + (number - 1) * width for place in range(len(kinds))]
        shares = [[table[kind][state] for table in tables] for kind in kinds]
        axes.bar(places, [mean(s) for s in shares], 0.95 * width, color=COLORS[number], label=label)
        for place, seeds in zip(places, shares, strict=True):
            axes.plot([place] * len(seeds), seeds, ".", color="black", markersize=3)
    axes.axhline(1 / len(CONCEPTS), color="black", linewidth=0.7, linestyle=":")
    axes.annotate("chance", (len(kinds) - 0.7, 1 / len(CONCEPTS) + 0.01), fontsize=7)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set_ylim(0, 1)
    axes.set_ylabel("named by its word")
    axes.set_title(f"Trained on pictures alone: {len(CONCEPTS)} concepts, held-out samples", size=9)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    plot([json.loads(path.read_text())["test"] for path in options.tables], options.out)


if __name__ == "__main__":
    main()
