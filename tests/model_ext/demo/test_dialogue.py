"""Rows about tools, dialogues and Chinese. Training and evaluation share no held-out tool, phrasing
or name.
"""

import json
import random
import re
from itertools import islice
from typing import Any

import pytest

from model_ext.demo.dialogue.build import evaluation, training
from model_ext.demo.dialogue.facts import KINDS, LISTS, fact_rows, held_out_facts, numbers
from model_ext.demo.dialogue.languages import ANIMALS, CHINESE, WHAT, language_rows, word_rows
from model_ext.demo.dialogue.more_tools import more_tools
from model_ext.demo.dialogue.talks import aspect_rows, dialogue_row, last_round, switch_rows
from model_ext.demo.dialogue.tool_rows import (
    POLITE,
    TASKS,
    choices,
    plain_form,
    polite,
    questions,
    training_rows,
    untooled,
)
from model_ext.demo.dialogue.tools import MORE_REQUESTS, SEEN, UNSEEN, DemoTool, phrasings
from model_ext.demo.dialogue.values import CITIES, HELD_OUT, PERSONS, TEXTS, THINGS, number
from model_ext.demo.splits import CONCEPTS
from model_ext.demo.texts import small_talk
from model_ext.eval.item import Item
from model_ext.eval.scorers.tools import steps, tool_score, tool_strict
from model_ext.train.data.conversations import dialogues
from model_ext.train.data.tokens import Turn, tokenize
from tests.model_ext.train.letters import Letters

FILE = re.compile(r"image/[0-9a-f]{8}\.png")
COUNTS = {"seen": 24, "unseen": 10, "none": 8}


@pytest.fixture(scope="module")
def training_set() -> list[dict[str, Any]]:
    return list(training_rows(36))


@pytest.fixture(scope="module")
def tests() -> list[dict[str, Any]]:
    return list(questions(**COUNTS))


def test_training_rows_are_read_by_train(training_set: list[dict[str, Any]]) -> None:
    replies = [[each.turns[0] for each in dialogues(row, "all")] for row in training_set]
    calls = [turn for turns in replies for turn in turns if turn.answer.endswith("Observation:")]
    assert len(calls) == 36
    assert len(training_set) == 54
    names = {tool.name for tool in choices("train")}
    assert {steps(turn.answer).actions[0] for turn in calls} <= names
    for turn in calls:
        offered = [line[2:].partition(":")[0] for line in turn.instruction.splitlines()
                   if line.startswith("> ")]  # fmt: skip
        assert steps(turn.answer).actions[0] in offered
        assert not {tool.name for tool in UNSEEN} & set(offered)
        assert len(turn.instruction) < 2000


def test_the_forms_of_a_row_give_the_same_examples(training_set: list[dict[str, Any]]) -> None:
    row = training_set[0]
    again = [dialogues(each, "all")[0].turns for each in plain_form(row)]
    assert again == [each.turns for each in dialogues(row, "all")]


def test_there_are_hundreds_of_training_tools() -> None:
    tools = more_tools()
    assert len({tool.name for tool in (*tools, *SEEN)}) == len(tools) + len(SEEN) > 500
    words = {word.lower() for tool in tools for word in re.findall(r"[A-Za-z]+", tool.name)}
    assert not {"rotate", "crop", "enlarge", "recolor", "mirror", "weather", "timer"} & words
    assert {len(tool.arguments) for tool in tools} == {1, 2}


def test_all_phrasings_of_a_tool_have_its_arguments() -> None:
    assert set(MORE_REQUESTS) == {tool.name for tool in SEEN}
    for tool in (*SEEN, *more_tools()):
        for text in phrasings(tool, "train"):
            assert set(re.findall(r"\{(\w+)\}", text)) == set(tool.arguments), text


# Words of the held-out phrasings that no training phrasing of the same tool has.
OWN_WORDS = {
    "Find Edges": "outline contour trace",
    "Estimate Depth": "distance deep compute",
    "Make Gray": "without black white convert",
    "Blur": "soft detail focus",
    "Segment": "region separate mark",
    "Detect": "locate box",
    "Remove": "better erase without",
    "Add": "needs like",
    "Replace": "swap and&not",
    "Draw": "love drawing create image",
    "Describe": "tell seen caption",
    "Transcribe": "spoken text turn",
}


@pytest.mark.parametrize("tool", SEEN, ids=lambda tool: tool.name)
def test_training_does_not_use_the_words_of_held_out_phrasings(tool: DemoTool) -> None:
    for word in OWN_WORDS[tool.name].split():
        parts = word.split("&")
        assert any(all(part in text.lower() for part in parts) for text in tool.held_out), word
        for text in phrasings(tool, "train"):
            assert not all(part in text.lower() for part in parts), (word, text)


def test_commands_become_polite() -> None:
    rng = random.Random(0)
    forms = {polite("Blur {file}.", rng) for _ in range(200)}
    assert len(forms) == len(POLITE) + 1
    assert "Could you blur {file}?" in forms
    for text in ("I need {file}.", "What is in {file}?", "{file} is dark.", "Scan it. Then go."):
        assert {polite(text, rng) for _ in range(50)} == {text}


def test_the_truth_is_right_by_all_scores(tests: list[dict[str, Any]]) -> None:
    for row in tests:
        Item.model_validate({"id": "0", **row})
        (truth,) = row["answers"]
        assert tool_score(truth, truth).success == tool_strict(truth, truth) == 1
        assert bool(steps(truth).actions) == (row["task"] != TASKS["none"])
    count = {task: sum(row["task"] == task for row in tests) for task in TASKS.values()}
    assert list(count.values()) == list(COUNTS.values())


def test_the_splits_are_disjoint(
    training_set: list[dict[str, Any]], tests: list[dict[str, Any]]
) -> None:
    learned = json.dumps(training_set)
    called = {task: set() for task in TASKS.values()}  # type: dict[str, set[str]]
    for row in tests:
        called[row["task"]] |= set(steps(row["answers"][0]).actions)
        request = row["question"].partition("New input: ")[2].splitlines()[0]
        assert json.dumps(request)[1:-1] not in learned
    assert called[TASKS["seen"]] <= {tool.name for tool in SEEN}
    assert called[TASKS["unseen"]] == {tool.name for tool in UNSEEN}
    assert not set(HELD_OUT) & {*CONCEPTS, *THINGS}
    for lists in (CITIES, PERSONS, TEXTS):
        assert not set(lists["train"]) & set(lists["test"])
    rng = random.Random(0)
    assert all(number("train", rng) % 7 and number("test", rng) % 7 == 0 for _ in range(100))
    assert not {prompt for prompt, _ in untooled()} & {prompt for prompt, _ in small_talk()[1::2]}
    assert not {tool.name for tool in SEEN} & {tool.name for tool in UNSEEN}
    assert not set(FILE.findall(learned)) & set(FILE.findall(json.dumps(tests)))
    requests = {text for tool in (*SEEN, *more_tools()) for text in phrasings(tool, "train")}
    assert not requests & {text for tool in (*SEEN, *UNSEEN) for text in tool.held_out}
    descriptions = {tool.description for tool in (*SEEN, *more_tools())}
    assert not descriptions & {tool.description for tool in UNSEEN}


def test_rows_are_the_same_in_each_build() -> None:
    assert list(training_rows(5)) == list(training_rows(5))
    assert list(islice(evaluation(), 5)) == list(islice(evaluation(), 5))


def test_dialogues_refer_to_the_first_answer() -> None:
    for seed in range(20):
        row = dialogue_row("a.png", "cat", random.Random(seed))
        (dialogue,) = dialogues(row, "all")
        assert 2 <= len(dialogue.turns) <= 5
        assert dialogue.turns[0].answer == "This is a cat."
        assert "Yes, it is." in [turn.answer for turn in dialogue.turns[1:]]


def test_the_last_round_has_the_prompt_of_a_dialogue() -> None:
    """Earlier rounds inside the instruction give the prompt that the server writes for them."""
    row = last_round([("What is this?", "This is a cat.")], "And this?", "This is a dog.", None)
    (one,) = dialogues(row, "all")
    turns = [Turn("What is this?", "This is a cat."), Turn("And this?", "This is a dog.")]
    tokenizer = Letters()
    joined = tokenize(one.turns, tokenizer, 999)
    assert joined.ids.equal(tokenize(turns, tokenizer, 999).ids)
    assert joined.labels.count_nonzero() == len("This is a dog.") + 1


def test_half_of_the_pronouns_in_training_mean_yes() -> None:
    pictures = [(f"{concept}.png", concept) for concept in CONCEPTS]
    answers = [row["conversations"][1]["value"] for row in aspect_rows(pictures, 40)]
    assert sum(answer.startswith("Yes") for answer in answers) == 20
    for row in switch_rows(pictures, 40):
        (dialogue,) = dialogues(row, "all")
        assert 1 <= dialogue.turns[0].instruction.count("### Response:") <= 4


def test_facts_are_disjoint() -> None:
    assert not set(KINDS["train"]) & set(KINDS["test"])
    for kind, words in LISTS["test"].items():
        assert not set(words) & set(LISTS["train"][kind])
    values = [numbers(side, random.Random(n)) for side in ("train", "test") for n in range(50)]
    for kind in ("small", "large", "long", "year", "price", "time", "date", "word"):
        assert not {each[kind] for each in values[:50]} & {each[kind] for each in values[50:]}
    learned = {row["messages"][0]["content"][0]["text"] for row in fact_rows(80, ["a.png"])}
    facts = held_out_facts()
    assert len(facts) == 100
    for fact in facts:
        assert fact.value in fact.answer
        assert fact.value in fact.context
        assert fact.question not in learned


def test_training_has_all_files() -> None:
    words = {concept: [f"{concept}.npy"] for concept in CONCEPTS}
    files = training([(f"{concept}.png", concept) for concept in CONCEPTS], words, calls=8)
    assert list(files) == ["tools", "dialogues", "facts", "languages", "words"]
    for rows in files.values():
        assert all(dialogues(row, "all") for row in rows)


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
    assert len(rows) == 51 * len(CONCEPTS)
    assert not any("image" in row or "embedding" in row for row in rows)


def test_the_embedding_does_not_tell_the_language() -> None:
    """Each file of embeddings has first questions in Chinese and in English. The question of the
    evaluation is in no row.
    """
    words = {concept: [f"{concept}-{number}.npy" for number in range(6)] for concept in CONCEPTS}
    rows = list(word_rows(words))
    languages: dict[str, list[bool]] = {}
    for row in rows:
        assert "image" not in row
        first = row["conversations"][0]["value"]
        languages.setdefault(row["embedding"], []).append(first.isascii())
    assert set(languages) == {path for paths in words.values() for path in paths}
    for each in languages.values():
        assert 0.35 < sum(each) / len(each) < 0.65
    asked = [
        turn.instruction
        for row in (*rows, *language_rows())
        for each in dialogues(row, "all")
        for turn in each.turns
    ]
    assert WHAT not in asked
