import pytest

from model_ext.eval.scorers.visdial import visdial_reciprocal_rank, visdial_true_rank
from tests.model_ext.eval.goldens import TOLERANCE, cases


def test_recorded_answers() -> None:
    rows = cases("mrr")
    assert len(rows) == 57
    for answer, candidates, score in rows:
        result = visdial_reciprocal_rank(answer, candidates)
        assert result == pytest.approx(score, abs=TOLERANCE), answer


def test_rank_by_log_probability_counts_equal_candidates_first() -> None:
    assert visdial_true_rank([-3.0, -1.0, -2.0], 1) == 1
    assert visdial_true_rank([-3.0, -1.0, -2.0], 0) == pytest.approx(1 / 3)
    assert visdial_true_rank([-1.0, -1.0], 0) == 0.5


@pytest.mark.parametrize("index", [-1, 2])
def test_rejects_an_index_outside_the_candidates(index: int) -> None:
    with pytest.raises(ValueError, match="truth_index"):
        visdial_true_rank([-1.0, -2.0], index)
