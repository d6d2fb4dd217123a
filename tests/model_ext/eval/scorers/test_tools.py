"""Scores of replies with tool calls, compared with the scores of GPT4Tools' own evaluation."""

import math

import pytest

from model_ext.eval.scorers.tools import tool_false_call, tool_score, tool_strict
from tests.model_ext.eval.goldens import TOLERANCE, cases

CALL = "Thought: Do I need to use a tool? Yes\nAction: A\nAction Input: a.png, x"
NO = "Thought: Do I need to use a tool? No\nAI: x"


def test_recorded_scores() -> None:
    rows = cases("tools")
    assert len(rows) == 138
    scored = 0.0
    for truth, reply, *expected in rows:
        if isinstance(expected[0], str):
            with pytest.raises(ValueError, match="without Action Input"):
                tool_score(reply, truth)
            continue
        values = [math.nan if value is None else value for value in expected]
        score = tool_score(reply, truth)
        assert score == pytest.approx(values, abs=TOLERANCE, nan_ok=True), (truth, reply)
        scored += score.success
    assert 0 < scored < len(rows)


def test_the_strict_score_needs_equal_arguments() -> None:
    other = CALL.replace("a.png", "b.png")
    assert tool_score(other, CALL).success == 1
    assert tool_strict(other, CALL) == 0
    assert tool_strict(CALL + "\nObservation: y", CALL) == tool_strict(NO, NO) == 1
    assert tool_strict(NO, CALL) == tool_strict(CALL, NO) == 0


def test_false_calls_are_those_of_truths_without_a_call() -> None:
    assert tool_false_call(CALL, NO) == 1
    assert tool_false_call(NO, NO) == 0
    assert tool_false_call(CALL, CALL) is None
