import pytest

from model_ext.eval.scorers.kie import kie_entities, kie_words
from tests.model_ext.eval.goldens import TOLERANCE, cases


def test_recorded_corpora() -> None:
    rows = cases("kie")
    assert sum(len(pairs) for pairs, *_ in rows) == 106
    for pairs, counts, prf, error, strict in rows:
        answers = [(answer, truth) for truth, answer in pairs]
        words = kie_words(answers)
        assert list(words) == counts
        if error is None:
            scores = [words.precision, words.recall, words.f1]
            assert scores == pytest.approx(prf, abs=TOLERANCE)
        else:  # cases in which LVLM-eHub's code divides by zero
            assert words.f1 == 0
        assert kie_entities(answers).f1 == pytest.approx(strict, abs=TOLERANCE)


def test_nothing_scores_zero() -> None:
    assert kie_words([]).f1 == kie_entities([]).f1 == 0
    assert kie_entities([("", "")]).f1 == 0
