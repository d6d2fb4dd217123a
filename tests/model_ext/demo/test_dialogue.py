"""Rows about tools, dialogues and Chinese. Training and evaluation share no held-out tool, phrasing
or name.
"""

import json
import re
from itertools import islice
from typing import Any

import pytest

from model_ext.demo.dialogue.build import dialogue_row, evaluation
from model_ext.demo.dialogue.languages import ANIMALS, CHINESE, language_rows
from model_ext.demo.dialogue.tool_rows import TASKS, questions, training_rows
from model_ext.demo.dialogue.tools import HELD_OUT, SEEN, UNSEEN
from model_ext.demo.splits import CONCEPTS
from model_ext.eval.item import Item
from model_ext.eval.scorers.tools import steps, tool_score, tool_strict
from model_ext.train.data.conversations import dialogues

FILE = re.compile(r"image/[0-9a-f]{8}\.png")
COUNTS = {"seen": 24, "unseen": 10, "none": 8}


@pytest.fixture(scope="module")
def training() -> list[dict[str, Any]]:
    return list(training_rows(36))


@pytest.fixture(scope="module")
def tests() -> list[dict[str, Any]]:
    return list(questions(**COUNTS))


def test_training_rows_are_read_by_train(training: list[dict[str, Any]]) -> None:
    replies = [[each.turns[0] for each in dialogues(row, "all")] for row in training]
    calls = [turn for turns in replies for turn in turns if turn.answer.endswith("Observation:")]
    assert len(calls) == 36
    assert len(training) == 48
    assert {steps(turn.answer).actions[0] for turn in calls} == {tool.name for tool in SEEN}
    for turn in calls:
        offered = [line[2:].partition(":")[0] for line in turn.instruction.splitlines()
                   if line.startswith("> ")]  # fmt: skip
        assert steps(turn.answer).actions[0] in offered
        assert not {tool.name for tool in UNSEEN} & set(offered)
        assert len(turn.instruction) < 2000


def test_the_truth_is_right_by_all_scores(tests: list[dict[str, Any]]) -> None:
    for row in tests:
        Item.model_validate({"id": "0", **row})
        (truth,) = row["answers"]
        assert tool_score(truth, truth).success == tool_strict(truth, truth) == 1
        assert bool(steps(truth).actions) == (row["task"] != TASKS["none"])
    count = {task: sum(row["task"] == task for row in tests) for task in TASKS.values()}
    assert list(count.values()) == list(COUNTS.values())


def test_the_splits_are_disjoint(
    training: list[dict[str, Any]], tests: list[dict[str, Any]]
) -> None:
    learned = json.dumps(training)
    called = {task: set() for task in TASKS.values()}  # type: dict[str, set[str]]
    for row in tests:
        called[row["task"]] |= set(steps(row["answers"][0]).actions)
        request = row["question"].partition("New input: ")[2].splitlines()[0]
        assert json.dumps(request)[1:-1] not in learned
    assert called[TASKS["seen"]] <= {tool.name for tool in SEEN}
    assert called[TASKS["unseen"]] == {tool.name for tool in UNSEEN}
    assert not set(HELD_OUT) & set(CONCEPTS)
    assert not {tool.name for tool in SEEN} & {tool.name for tool in UNSEEN}
    assert not set(FILE.findall(learned)) & set(FILE.findall(json.dumps(tests)))
    for tool in SEEN:
        assert not set(tool.requests) & set(tool.held_out)


def test_rows_are_the_same_in_each_build() -> None:
    assert list(training_rows(5)) == list(training_rows(5))
    assert list(islice(evaluation(), 5)) == list(islice(evaluation(), 5))


def test_dialogues_have_three_rounds() -> None:
    (dialogue,) = dialogues(dialogue_row("a.png", "cat"), "all")
    assert [turn.answer for turn in dialogue.turns][:2] == ["This is a cat.", "Yes, it is."]


def test_pronouns_are_balanced() -> None:
    answers = [row["answers"][0] for row in evaluation() if row["task"] == "Dialogue pronoun"]
    assert answers.count("yes") == answers.count("no") == len(ANIMALS)


def test_every_thing_has_a_chinese_word() -> None:
    assert set(CHINESE) == set(CONCEPTS)
    assert set(CONCEPTS) > ANIMALS
    words = [word for words in CHINESE.values() for word in words]
    assert len(set(words)) == len(words)
    assert all("\u4e00" <= letter <= "\u9fff" for word in words for letter in word)
    rows = list(language_rows())
    assert len(rows) == 6 * len(CONCEPTS)
    assert not any("image" in row for row in rows)
