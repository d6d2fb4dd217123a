"""Scores of text recognition: whether the answer contains the word (LVLM-eHub), and whether the
letters are equal (strict).
"""

import re

from model_ext.eval.scorers.containment import contains_word


def ocr_containment(answer: str, truth: str) -> float:
    """1 if the answer contains the true word. Compares only ASCII letters and digits, in lower
    case.
    """
    return float(contains_word(letters_and_space(answer), letters_and_space(truth)))


def ocr_letters(answer: str, truth: str) -> float | None:
    """1 if the letters and digits are equal. None if the truth has no letters and no digits: such
    an item has no strict score.
    """
    expected = letters(truth)
    return float(letters(answer) == expected) if expected else None


def letters_and_space(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9\s]", "", text).lower()


def letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text).lower()
