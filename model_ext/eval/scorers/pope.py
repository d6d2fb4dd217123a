"""POPE's reading of answers to yes-or-no questions about things in a picture."""

from typing import Literal

NEGATIONS = {"No", "no", "not"}


def pope_label(answer: str) -> Literal["yes", "no"]:
    """Return "no" if the first sentence of the answer has the word No, no or not, else "yes".

    POPE's official tool does the same. Only spaces separate words, and commas are removed, so
    "no,it" is one word.
    """
    first, _, _ = answer.partition(".")
    return "no" if NEGATIONS & set(first.replace(",", "").split(" ")) else "yes"
