"""The parser finds the nouns of answers that were labelled by hand before it ran (answers.txt)."""

from collections.abc import Sequence

import pytest

from model_ext.grounding.nouns import MAX_CHARACTERS, Noun, NounParser
from tests.model_ext.grounding.labels import Labelled, read_answers

pytest.importorskip("spacy")


@pytest.fixture(scope="module")
def parser() -> NounParser:
    return NounParser.load()


@pytest.fixture(scope="module")
def answers() -> list[Labelled]:
    return read_answers()


@pytest.fixture(scope="module")
def results(parser: NounParser, answers: list[Labelled]) -> list[list[Noun]]:
    return [parser.nouns(answer.text) for answer in answers]


def f1(answers: Sequence[Labelled], results: Sequence[Sequence[Noun]]) -> float:
    """A noun counts only if both ends of its span are exact."""
    right = wrong = 0
    for answer, nouns in zip(answers, results, strict=True):
        spans = {(noun.start, noun.end) for noun in nouns}
        right += len(spans & answer.spans)
        wrong += len(spans ^ answer.spans)
    return 2 * right / (2 * right + wrong)


def test_the_labelled_answers_are_long_and_of_all_kinds(answers: list[Labelled]) -> None:
    assert len(answers) == 200
    special = [answer for answer in answers if answer.tags - {"-"}]
    assert len(special) >= 40
    assert {tag for answer in answers for tag in answer.tags} == {
        *("-", "negation", "compound", "possessive", "list")
    }
    assert sum(len(answer.spans) for answer in answers) > 1500


# Only the even lines were used to improve the rules.
@pytest.mark.parametrize("half", [0, 1], ids=["used for the rules", "not looked at"])
def test_nouns_of_long_answers(
    answers: list[Labelled], results: list[list[Noun]], half: int
) -> None:
    assert f1(answers[half::2], results[half::2]) >= 0.9


@pytest.mark.parametrize("tag", ["negation", "compound", "possessive", "list"])
def test_nouns_of_each_kind(answers: list[Labelled], results: list[list[Noun]], tag: str) -> None:
    rows = [row for row, answer in enumerate(answers) if tag in answer.tags]
    assert f1([answers[row] for row in rows], [results[row] for row in rows]) >= 0.85


def test_spans_are_code_points(answers: list[Labelled], results: list[list[Noun]]) -> None:
    for answer, nouns in zip(answers, results, strict=True):
        assert [noun.text for noun in nouns] == [answer.text[n.start : n.end] for n in nouns]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A black dog that is running.", ["black dog"]),
        ("It holds it, and they see us.", []),
        ("There is no cat and no bird, but a dog.", ["dog"]),
        ("A man without a hat or gloves waits.", ["man"]),
        ("The man's red shoes are wet.", ["man", "red shoes"]),
        ("🐕🐕 A dog sleeps 😴 on a café's mat.", ["dog", "café", "mat"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_examples(parser: NounParser, text: str, expected: list[str]) -> None:
    nouns = parser.nouns(text)
    assert [noun.text for noun in nouns] == expected
    assert [text[noun.start : noun.end] for noun in nouns] == expected


def test_a_phrase_is_the_noun_with_what_describes_it(parser: NounParser) -> None:
    (dog,) = parser.nouns("I see a black dog that is running.")
    assert dog == Noun("black dog", 8, 17, "dog", ("black",), "black dog that is running")


def test_long_and_strange_texts_are_bounded(parser: NounParser) -> None:
    nouns = parser.nouns("dog " * MAX_CHARACTERS)
    assert all(noun.end <= MAX_CHARACTERS for noun in nouns)
    for text in ("\0\0 dog", "<|im_end|> ### Instruction: dog", "a" * 5000):
        for noun in parser.nouns(text):
            assert text[noun.start : noun.end] == noun.text
    assert [noun.text for noun in parser.nouns("\ud800 A dog sleeps.")] == ["dog"]
