from model_ext.eval.scorers.normalise import normalise, without_punctuation
from tests.model_ext.eval.goldens import cases


def test_recorded_texts() -> None:
    rows = cases("normalise")
    assert len(rows) == 110
    assert {text: normalise(text) for text, _ in rows} == dict(rows)


def test_a_comma_between_digits_changes_every_mark_of_the_text() -> None:
    assert normalise("red/blue") == "red blue"
    assert normalise("red/blue, 1,000") == "redblue 1000"


def test_deletes_at_most_32_periods() -> None:
    assert without_punctuation("." * 40) == "." * 8


def test_contractions_with_a_capital_letter_never_match() -> None:
    assert normalise("Im") == "im"
    assert normalise("dont") == "don't"
    assert normalise("somebody'd") == "somebodyd"
