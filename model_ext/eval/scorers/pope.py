"""POPE's score: yes-or-no questions about things that a picture shows or does not show."""

from typing import Literal

NEGATIONS = {"No", "no", "not"}


def pope_label(answer: str) -> Literal["yes", "no"]:
    """Return "no" if the first sentence of the answer has the word No, no or not, else "yes".

    POPE's official tool does the same. Commas do not separate words from each other's spaces.
    """
    first, _, _ = answer.partition(".")
    return "no" if NEGATIONS & set(first.replace(",", "").split(" ")) else "yes"
