"""Normalise answers exactly as the public VQA code does, including its errors.

A second normalisation can change the result of the first.
"""

import json
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

# By mistake, the public code passes the flag re.UNICODE (32) to re.sub as the argument `count`.
MAX_PERIODS = 32


class Tables(NamedTuple):
    articles: frozenset[str]
    numbers: dict[str, str]
    punctuation: list[str]
    contractions: dict[str, str]  # spelling -> canonical form


@cache
def tables() -> Tables:
    data = json.loads(files(__package__).joinpath("normalise.json").read_text(encoding="utf-8"))
    return Tables(
        articles=frozenset(data["articles"]),
        numbers={word: str(digits) for word, digits in data["numbers"].items()},
        punctuation=data["punctuation"],
        contractions={
            s: form for form, spellings in data["contractions"].items() for s in spellings
        },
    )


def without_punctuation(text: str) -> str:
    """Apply steps 1 to 4: change white space, punctuation, and periods that no digit follows."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    delete_all = re.search(r"\d,\d", text) is not None
    result = text
    for mark in tables().punctuation:
        delete = delete_all or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if delete else " ")
    return re.sub(r"\.(?!\d)", "", result, count=MAX_PERIODS)


def normalise(text: str) -> str:
    """Return the normalised text: lower case, number words as digits, no articles, contractions
    with apostrophes.
    """
    articles, numbers, _, contractions = tables()
    words = [numbers.get(word, word) for word in without_punctuation(text).lower().split()]
    return " ".join(contractions.get(word, word) for word in words if word not in articles)
