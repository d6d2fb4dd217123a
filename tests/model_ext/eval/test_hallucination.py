"""The hallucination rate and the false-found rate, computed by hand."""

import pytest

from model_ext.eval.hallucination import (
    ABSENT,
    Described,
    absent_nouns,
    false_found_rate,
    hallucination_rate,
    hallucination_table,
)

ANSWERS = (
    Described("a.png", ("dog", "red car", "tree"), (True, False, True)),
    Described("b.png", ("Tree", "house"), (False, True)),
    Described("c.png", (), ()),
)


def test_the_rate_is_the_share_of_all_nouns() -> None:
    estimate = hallucination_rate(ANSWERS, "run")
    assert estimate.value == pytest.approx(100 * 2 / 5)
    low, high = estimate.interval
    assert 0 <= low <= estimate.value <= high <= 100
    assert hallucination_rate(ANSWERS[2:], "run").value == 0


def test_absent_nouns_are_those_of_other_answers() -> None:
    assert absent_nouns(ANSWERS, 0) == ["house"]
    assert absent_nouns(ANSWERS, 1) == ["dog", "red car"]
    assert absent_nouns(ANSWERS, 2) == ["dog", "red car", "tree", "house"]
    many = (ANSWERS[2], Described("d", tuple(map(str, range(20))), (True,) * 20))
    assert len(absent_nouns(many, 0)) == ABSENT


def test_the_table_has_a_row_for_each_run() -> None:
    assert false_found_rate([(1, 4), (0, 4), (0, 0)], "run").value == pytest.approx(12.5)
    table = hallucination_table([("cache on", ANSWERS, [(1, 4)]), ("off", ANSWERS, [(0, 0)])])
    assert table.rows[0][:4] == ["cache on", "3", "5", "40.0"]
    assert table.rows[0][5] == "25.0"
    assert table.rows[1][5] == "0.0"
