import pytest

from model_ext.eval.scorers.vqa import vqa_consensus, vqa_containment, vqa_every, vqa_exact
from tests.model_ext.eval.goldens import TOLERANCE, as_list, cases


def test_recorded_answers() -> None:
    rows = cases("vqa")
    assert len(rows) == 287
    for answer, truth, containment, exact, consensus in rows:
        truths = as_list(truth)
        assert vqa_containment(answer, truths) == containment, (answer, truth)
        assert vqa_exact(answer, truths) == exact, (answer, truth)
        score = vqa_consensus(answer, truths)
        assert score == (consensus and pytest.approx(consensus, abs=TOLERANCE)), (answer, truth)


def test_consensus_is_the_mean_over_the_subsets_without_one_annotator() -> None:
    """The score equals a calculation by hand, for an answer that 3 of 10 annotators gave."""
    truths = ["cat"] * 3 + ["dog"] * 7
    assert vqa_consensus("a cat", truths) == pytest.approx((3 * 2 / 3 + 7 * 1) / 10)
    assert vqa_consensus("a cat", []) is None


def test_the_truths_are_not_changed() -> None:
    truths = ["The Cat.", "3."]
    for scorer in (vqa_containment, vqa_exact, vqa_consensus):
        assert scorer("cat", truths) == scorer("cat", truths)
    assert truths == ["The Cat.", "3."]


def test_every_truth_is_contained() -> None:
    assert vqa_every("A cat and a dog.", ["dog", "cat"]) == 1
    assert vqa_every("A cat and a dog.", ["dog", "cow"]) == 0
    assert vqa_every("A cat.", []) == 0
