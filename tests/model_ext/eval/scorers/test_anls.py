import pytest

from model_ext.eval.scorers.anls import anls, anls_paper, levenshtein
from tests.model_ext.eval.goldens import TOLERANCE, cases


def test_recorded_answers() -> None:
    rows = cases("anls")
    assert len(rows) == 118
    for answer, truths, server, paper in rows:
        assert anls(answer, truths) == pytest.approx(server, abs=TOLERANCE), (answer, truths)
        assert anls_paper(answer, truths) == pytest.approx(paper, abs=TOLERANCE), (answer, truths)


def test_no_truths_score_zero() -> None:
    assert anls("x", []) == anls_paper("x", []) == 0


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2), ("same", "same", 0)],
)
def test_levenshtein(a: str, b: str, distance: int) -> None:
    assert levenshtein(a, b) == levenshtein(b, a) == distance
