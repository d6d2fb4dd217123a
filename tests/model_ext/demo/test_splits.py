"""The splits of the demonstration's data have no common styles, voices or shapes.

The tests read the committed lists of the files with which the committed model was trained.
"""

from itertools import combinations
from pathlib import Path

import pytest

from model_ext.demo import build_data
from model_ext.demo.questions import TWENTY
from model_ext.demo.splits import CONCEPTS, SPLITS, STYLES, VOICES, Split
from model_ext.demo.texts import LINES, a, small_talk

PAIRS = list(combinations(SPLITS, 2))


def folders(split: Split) -> dict[str, set[str]]:
    """Return the file names of each folder in the committed list of a split."""
    lines = (build_data.LISTS / f"{split}.txt").read_text().splitlines()
    return {line.split(": ")[0]: set(line.split(": ")[1].split()) for line in lines}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_style_voice_or_shape_is_in_two_splits(one: Split, other: Split) -> None:
    assert not folders(one).keys() & folders(other).keys()
    assert not set(STYLES[one]) & set(STYLES[other])
    assert not set(VOICES[one]) & set(VOICES[other])


@pytest.mark.parametrize("split", SPLITS)
def test_lists_are_those_of_the_recipe(split: Split) -> None:
    styles = {name.split("/")[1] for name in folders(split) if not name.startswith("audio/")}
    voices = {name.split("/")[1] for name in folders(split) if name.startswith("audio/")}
    assert styles == set(STYLES[split])
    assert voices == set(VOICES[split])
    modalities = {name.split("/")[0] for name in folders(split)}
    assert modalities == {"image", "point", "audio"} | ({"video"} if split != "train" else set())


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_concept_is_tested_in_every_style_and_voice(split: Split) -> None:
    for folder, names in folders(split).items():
        assert {Path(name).stem.removesuffix("-0") for name in names} == set(CONCEPTS), folder


def test_there_are_enough_concepts_and_each_has_its_line() -> None:
    assert len(set(CONCEPTS)) == len(CONCEPTS) >= 60
    assert LINES.keys() == set(CONCEPTS)


def test_no_question_of_the_card_is_in_the_small_talk() -> None:
    prompts = [prompt for prompt, _ in small_talk()]
    assert len(set(prompts)) == len(prompts) > 200
    assert all(answer.strip() for _, answer in small_talk())
    assert not set(prompts) & {question for files, question in TWENTY if not files}


def test_articles() -> None:
    assert [a(c) for c in ("ant", "cat", "glasses")] == ["an ant", "a cat", "glasses"]
