import pytest

from model_ext.eval.scorers.mme import MmeScore, mme_label, mme_label_strict, mme_score
from tests.model_ext.eval.goldens import TOLERANCE, cases


def test_recorded_labels() -> None:
    rows = cases("mme_labels")
    assert len(rows) == 172
    for answer, official, _, strict in rows:
        assert mme_label(answer) == official, answer
        assert mme_label_strict(answer) == strict.replace("unknown", "other"), answer


def test_recorded_runs() -> None:
    runs = cases("mme_runs")
    assert len(runs) == 3
    for rows, scores, _ in runs:
        assert rows.keys() == scores.keys()
        for subtask, lines in rows.items():
            right = [mme_label(answer) == truth.lower() for *_, truth, answer in lines]
            pairs = list(zip(right[::2], right[1::2], strict=True))
            assert mme_score(pairs).score == pytest.approx(scores[subtask], abs=TOLERANCE)


def test_ten_pictures_by_hand() -> None:
    """Of ten pictures with two questions each, 6 have two right answers, 3 one, and 1 none."""
    pairs = [(True, True)] * 6 + [(True, False)] * 2 + [(False, True)] + [(False, False)]
    result = mme_score(pairs)
    assert result == MmeScore(acc=0.75, acc_plus=0.6)
    assert result.score == pytest.approx(135)


def test_always_yes_scores_fifty() -> None:
    assert mme_score([(True, False)] * 20).score == 50


def test_reads_only_four_characters() -> None:
    texts = ("eyes", "know", "**Yes**", "\t\n no", "İyes")
    assert "İ".lower() == "i\u0307"  # two characters
    assert [mme_label(text) for text in texts] == ["yes", "no", "other", "other", "other"]


def test_rejects_an_empty_subtask() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        mme_score([])
