"""Estimate the size of a regular expression or a grammar's text without compiling it.

The scanner reads only the elements that determine the cost of a compilation: groups, alternatives,
character classes and counted repetitions. It ignores syntax errors, which the compiler reports.
"""

import re
from dataclasses import dataclass

REPETITION = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}|~\s*(\d+)(?:\s*\.\.\s*(\d+))?")
MAX_DIGITS = 9  # a repetition count with more digits counts as 10**9


@dataclass(slots=True)
class TextSize:
    nesting: int = 0  # Depth of the most deeply nested group.
    alternatives: int = 1  # Number of alternatives and rules in the whole text.
    alphabet: int = 0  # Number of characters and ranges in all character classes.
    positions: int = 0  # Number of characters and classes, each times its counted repetitions.


def text_size(text: str, *, quoted: bool) -> TextSize:
    """Measure a text. `quoted`: True for grammars, whose literals are in double quotes; False for
    regular expressions, in which every character is a literal.
    """
    size = TextSize()
    totals, last = [0], 0  # positions in each open group, and in the last character or group
    index = 0
    while index < len(text):
        char = text[index]
        if repetition := REPETITION.match(text, index):
            totals[-1] += last * (count(repetition) - 1)
            index, last = repetition.end(), 0
            continue
        if char == "(":
            totals.append(0)
            size.nesting = max(size.nesting, len(totals) - 1)
        elif char == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] += last
        elif char == "|":
            size.alternatives += 1
        elif char == "[":
            end = class_end(text, index)
            size.alphabet += end - index - 1
            totals[-1], last = totals[-1] + 1, 1
            index = end
        elif quoted and char == '"':
            end = literal_end(text, index)
            last = end - index - 1
            totals[-1] += last
            index = end
        elif quoted and text.startswith("::=", index):
            size.alternatives += 1
            index += 2
        elif not quoted or char.isalnum():
            index += char == "\\"
            totals[-1], last = totals[-1] + 1, 1
        index += 1
    size.positions = sum(totals)
    return size


def count(repetition: re.Match[str]) -> int:
    """Return the maximum count of a repetition such as `{2,5}`, at least 1."""
    numbers = [number for number in repetition.groups() if number]
    if any(len(number.lstrip("0")) > MAX_DIGITS for number in numbers):
        return 10**MAX_DIGITS
    return max(1, *(int(number) for number in (*numbers, "1")))


def class_end(text: str, start: int) -> int:
    """The index of the `]` that ends the class at `start`, or of the last character."""
    index = start + 1
    while index < len(text) - 1 and (text[index] != "]" or index == start + 1):
        index += 2 if text[index] == "\\" else 1
    return min(index, len(text) - 1)


def literal_end(text: str, start: int) -> int:
    """The index of the quote that ends the literal at `start`, or of the last character."""
    index = start + 1
    while index < len(text) - 1 and text[index] not in '"\n':
        index += 2 if text[index] == "\\" else 1
    return min(index, len(text) - 1)
