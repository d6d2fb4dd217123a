"""Functions of the task demo_pictures.yaml, for lmms-eval. Imports nothing of bindserve."""

import re
from pathlib import Path
from typing import Any

from PIL import Image

FOLDER = Path("tests/fixtures/evaluation")
ARTICLES = {"a", "an", "the"}
Row = dict[str, Any]


def pictures(row: Row) -> list[Image.Image]:
    return [Image.open(FOLDER / row["image"]).convert("RGB")] if row["image"] else []


def target(row: Row) -> str:
    return str(row["answers"][0])


def score(row: Row, results: list[str]) -> dict[str, float]:
    """1 if the answer equals an expected one, apart from case, punctuation and articles."""
    return {"exact": float(words(results[0]) in [words(truth) for truth in row["answers"]])}


def words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ARTICLES]
