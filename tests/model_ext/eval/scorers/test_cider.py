import pytest

from model_ext.eval.scorers.cider import cider_ptb, cider_raw
from tests.model_ext.eval.goldens import TOLERANCE, cases


def test_recorded_corpora() -> None:
    rows = cases("cider")
    assert sum(len(items) for items, *_ in rows) == 82
    for items, raw, raw_each, official, official_each in rows:
        answers, references = zip(*items, strict=True)
        scores = cider_raw(answers, references)
        assert scores == pytest.approx(raw_each, abs=TOLERANCE)
        assert sum(scores) / len(scores) == pytest.approx(raw, abs=TOLERANCE)
        scores = cider_ptb(answers, references)
        assert scores == pytest.approx(official_each, abs=TOLERANCE)
        assert sum(scores) / len(scores) == pytest.approx(official, abs=TOLERANCE)


def test_equal_captions_score_ten() -> None:
    texts = ["a dog runs on grass", "three birds sit over there"]
    assert cider_raw(texts, [[t] for t in texts]) == pytest.approx([10, 10])


def test_one_item_and_empty_texts_score_zero() -> None:
    assert cider_raw(["a dog"], [["a dog"]]) == [0]
    assert cider_raw(["", "a b"], [[""], [""]]) == [0, 0]
    assert cider_raw([], []) == []


def test_rejects_items_without_references() -> None:
    with pytest.raises(ValueError, match="item 1 has no reference"):
        cider_raw(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match="2 answers but 1"):
        cider_raw(["a", "b"], [["a"]])
