"""GPT4Tools' scores of a reply with tool calls, and a stricter score.

A truth and a reply are texts with lines `Thought: Do I need to use a tool? `, `Action: ` and
`Action Input: `. The scores compare the lists of these lines by position.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

THOUGHT = re.compile(r"Thought: Do I need to use a tool\? (.*)")
ACTION = re.compile(r"Action: (.*)")
INPUT = re.compile(r"Action Input: (.*)")
ANSWER = "AI: "
NO = "No"
PASSED = 0.5  # minimum score of the arguments if a call counts as right
FILE = ".png"  # if the truth has such a file name, any other one is right, too


class ToolScore(NamedTuple):
    """thought, action, arguments: shares of right lines of each kind, relative to the longer of the
    two lists. `thought` is nan if neither text has such a line. success: 1 if the whole reply is
    right. iou: the overlap of all lines (intersection over union).
    """

    thought: float
    action: float
    arguments: float
    success: float
    iou: float


class Steps(NamedTuple):
    thoughts: list[str]
    actions: list[str]
    inputs: list[str]


def tool_score(reply: str, truth: str) -> ToolScore:
    """Score a reply. Raises ValueError: when the truth has an action without arguments."""
    right, given = steps(truth), steps(reply)
    if has_calls := "Action:" in truth and "Action Input:" in truth:
        if len(right.actions) != len(right.inputs):
            raise ValueError("the truth has an Action without Action Input")
        del right.thoughts[len(right.actions) :]
        if len(given.thoughts) == len(given.actions) + 1 and given.thoughts[-1] == NO:
            del given.thoughts[-1]
    vectors = [
        [float(a == b) for a, b in pairs(right.thoughts, given.thoughts)],
        [float(a == b) for a, b in pairs(right.actions, given.actions)],
        [arguments_score(a, b) for a, b in pairs(right.inputs, given.inputs)],
    ]
    iou = overlap(vectors, [len(each) for each in right])
    if not has_calls:
        answered = given.thoughts[:1] == [NO] and ANSWER in reply
        thought = mean(vectors[0]) if answered else 0.0
        success = float(thought == 1)
        return ToolScore(thought, success, success, success, iou)
    thought, action, arguments = map(mean, vectors)
    success = float(thought == 1 and action == 1 and arguments >= PASSED)
    return ToolScore(thought, action, arguments, success, iou)


def tool_strict(reply: str, truth: str) -> float:
    """1 if the reply has exactly the truth's calls with equal arguments. If the truth has no calls:
    1 if the reply has no calls either.
    """
    right, given = steps(truth), steps(reply)
    return float(right.actions == given.actions and right.inputs == given.inputs)


def tool_false_call(reply: str, truth: str) -> float | None:
    """1 if the reply has a call, else 0, for a truth without calls. None if the truth has calls."""
    return None if steps(truth).actions else float(bool(steps(reply).actions))


def steps(text: str) -> Steps:
    return Steps(
        *([line.strip() for line in mark.findall(text)] for mark in (THOUGHT, ACTION, INPUT))
    )


def pairs(right: Sequence[str], given: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Pair the lines by position. The shorter list is filled with None."""
    length = max(len(right), len(given))
    return [
        (right[n] if n < len(right) else None, given[n] if n < len(given) else None)
        for n in range(length)
    ]


def arguments_score(right: str | None, given: str | None) -> float:
    """The mean score of the values in two comma-separated lists. 0 if their lengths differ."""
    if right is None or given is None:
        return 0.0
    values, texts = right.split(","), given.split(",")
    if len(values) != len(texts):
        return 0.0
    scores = []
    for value, text in zip(values, texts, strict=True):
        if FILE not in value:
            scores.append(bleu_1(text.split(), value.split()))
        elif FILE in text:
            scores.append(1.0)
        else:
            return 0.0
    return mean(scores)


def bleu_1(words: Sequence[str], truth: Sequence[str]) -> float:
    """BLEU of single words (BLEU-1), with the constants of GPT4Tools' released code."""
    matches = sum((Counter(words) & Counter(truth)).values())
    precision = (matches + 1e-15) / (len(words) + 1e-9)
    ratio = (len(words) + 1e-15) / (len(truth) + 1e-9)
    return precision * math.exp(1 - 1 / ratio) if ratio < 1 else precision


def overlap(vectors: Sequence[Sequence[float]], lengths: Sequence[int]) -> float:
    """Intersection over union of the reply's lines and the truth's lines. A line that the reply
    shares with the truth counts with its score.
    """
    both = either = 0.0
    for vector, length in zip(vectors, lengths, strict=True):
        both += sum(vector[:length])
        either += sum(max(value, float(n < length)) for n, value in enumerate(vector))
    return both / max(either, 1)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
