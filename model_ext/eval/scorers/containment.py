"""Word containment: the test that most of LVLM-eHub's scorers apply."""

import re
from collections.abc import Sequence


def contains_word(text: str, word: str) -> bool:
    r"""Whether `word` occurs in `text` with a word boundary (Python's `\b`) at both ends.

    An empty word is contained in every text that has a word character. A word whose first or
    last character is not a word character (`$5`) needs a word character as its neighbor there.
    """
    return re.search(rf"\b{re.escape(word)}\b", text) is not None


def contains_any(answer: str, truths: Sequence[str]) -> float:
    """1 if the answer contains any truth, even inside a word, because Chinese has no spaces."""
    return float(any(truth in answer for truth in truths))
