"""Build the drawings and the lists of the detector's training, beside the data of `build_data.py`.

    python -m model_ext.demo.build_detection --icons build/icons/node_modules --data build/demo/data

`build_data.py` writes held-out pictures on a white background. Scenes need drawings with a
transparent background, so this program renders the held-out styles with an alpha channel. Lists:

    detection-train.jsonl       drawings of the training styles, and texts of their concepts
    detection-validation.jsonl  drawings, texts and voices of the validation split
    detection-test.jsonl        drawings, texts and voices of the test split
"""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from model_ext.demo.build_data import SEED, make, sounds
from model_ext.demo.pictures import SIZE, IconSet, things
from model_ext.demo.splits import CONCEPTS, GLYPHS, STYLES, Split

# Concepts whose drawings are omitted from the detector's training. The evaluation measures how well
# the detector finds things without training on their boxes. Drawings of other things whose names
# contain one of these words ("minibus") are omitted too.
NEVER_BOXED = ("banana", "bus", "camel", "guitar", "owl", "penguin", "scissors", "umbrella")
WORDINGS = ("{}", "a {}")
OTHERS = 40  # number of other things in the test scenes
# The weight of a concept when training draws keys. All other things have the weight 1.
CONCEPT_WEIGHT = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--icons", type=Path, required=True, help="node_modules of package.json")
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for split in splits:
        rows = list(samples(options.icons, options.data, split))
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (options.data / f"detection-{split}.jsonl").write_text(lines)


def samples(packages: Path, out: Path, split: Split) -> Iterator[dict[str, Any]]:
    """Write the split's files, and yield the rows of its list."""
    sets = [
        IconSet.open(packages, style)
        for style in STYLES[split]
        if style not in GLYPHS or split == "train"
    ]
    names = set(CONCEPTS)
    if split == "train":
        names = set(trained(sets))
    elif split == "test":
        names |= set(others(sets))
    for icons in sets:
        for name in tqdm(sorted(names & set(icons.bodies)), icons.style, mininterval=5):
            path = f"alpha/{icons.style}/{name}.png"
            row: dict[str, Any] = {"key": name, "modality": "image", "path": path}
            if split == "train" and name in CONCEPTS:
                row["weight"] = CONCEPT_WEIGHT
            make((row, partial(draw, icons, name)), out)
            yield row
    if split != "train":
        for job in sounds(split):
            make(job, out)
            yield job[0]
    for name in CONCEPTS:
        if split == "train" and name in NEVER_BOXED:
            continue
        for wording in WORDINGS:
            text = wording.format(name.replace("-", " "))
            yield {"key": name, "modality": "text", "text": text}


def trained(sets: list[IconSet]) -> list[str]:
    """Return the things of the training scenes: those of the colored sets, except NEVER_BOXED."""
    colored = [icons for icons in sets if icons.style not in GLYPHS]
    return [name for name in things(colored, 1) if not any(word in name for word in NEVER_BOXED)]


def others(sets: list[IconSet]) -> list[str]:
    """Choose things whose names contain no concept, so that no query of the test names them."""
    names = [name for name in things(sets, 1) if not any(concept in name for concept in CONCEPTS)]
    chosen = np.random.default_rng(SEED).permutation(len(names))[:OTHERS]
    return [names[index] for index in chosen]


def draw(icons: IconSet, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    icons.render(name, SIZE).save(path)


if __name__ == "__main__":
    main()
