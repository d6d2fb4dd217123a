"""Plot the tables of `evaluate.py`: one bar for each input and state of the cache (off, on,
shuffled), and a mark for each seed.

    python -m model_ext.demo.plot build/demo/table-pretrain*.json --out transfer.png

Needs matplotlib (extra `plot`).
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
    """Write the plot. `tables`: for each seed, input -> state of the cache -> share of correct
    answers.
    """
    inputs = list(tables[0])
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(STATES)
    for number, (state, label) in enumerate(STATES.items()):
        positions = [position + (number - 1) * width for position in range(len(inputs))]
        shares = [[table[name][state] for table in tables] for name in inputs]
        axes.bar(
            positions, [mean(s) for s in shares], 0.95 * width, color=COLORS[number], label=label
        )
        for position, seeds in zip(positions, shares, strict=True):
            axes.plot([position] * len(seeds), seeds, ".", color="black", markersize=3)
    axes.axhline(1 / len(CONCEPTS), color="black", linewidth=0.7, linestyle=":")
    axes.annotate("chance", (len(inputs) - 0.7, 1 / len(CONCEPTS) + 0.01), fontsize=7)
    axes.set_xticks(range(len(inputs)), inputs)
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
