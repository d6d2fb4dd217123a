import numpy as np
import pytest

from model_ext.eval.compare import compare, permutation_p
from model_ext.eval.item import Item
from model_ext.eval.metrics import percent
from model_ext.eval.tasks.table import TASKS


def items(count: int) -> list[Item]:
    return [Item(id=str(n), task="GQA", question="Q?", answers=["cat"]) for n in range(count)]


def answers(texts: list[str]) -> dict[str, str]:
    return {str(n): text for n, text in enumerate(texts)}


def test_equal_runs_do_not_differ() -> None:
    same = answers(["cat", "dog", "cat"])
    result = compare(TASKS["GQA"], items(3), same, same)
    assert (result.first, result.second) == (pytest.approx(200 / 3), pytest.approx(200 / 3))
    assert result.p == 1
    assert result.interval == (0, 0)
    assert result.changes == []


def test_lists_changed_scores_before_changed_texts() -> None:
    first = answers(["a cat", "dog", "cat", "dog"])
    second = answers(["the cat", "cat", "dog", "cat"])
    result = compare(TASKS["GQA"], items(4), first, second)
    assert [change.item.id for change in result.changes] == ["1", "2", "3", "0"]
    assert result.changes[0].scores == (0, 100)
    assert (result.better, result.worse) == (2, 1)


def test_the_p_value_is_that_of_the_sign_test() -> None:
    """If k answers changed, all from wrong to right, the exact p value is 2 / 2**k."""
    for changed in (1, 3, 6):
        second = answers(["cat"] * changed + ["dog"] * (20 - changed))
        result = compare(TASKS["GQA"], items(20), answers(["dog"] * 20), second)
        assert result.p == pytest.approx(2 * 0.5**changed, abs=0.02)


def test_the_p_value_is_uniform_for_runs_of_one_distribution() -> None:
    generator = np.random.default_rng(0)
    below = 0
    for n in range(20):
        rows = generator.normal(size=(30, 2, 1))
        below += permutation_p(rows, percent, str(n)) < 0.2
    assert 1 <= below <= 10


def test_pairs_of_mme_are_pictures_and_changes_are_questions() -> None:
    questions = [
        Item(id=f"{n}{truth}", task="MME/color", question="Q?", answers=[truth], pair=str(n))
        for n in range(2)
        for truth in ("Yes", "No")
    ]
    always = {item.id: "yes" for item in questions}
    result = compare(TASKS["MME/color"], questions, always, {**always, "0No": "no"})
    assert result.items == 2
    assert (result.first, result.second) == (50, 125)
    assert [(change.item.id, change.scores) for change in result.changes] == [("0No", (0, 100))]


def test_rejects_answers_of_another_task() -> None:
    with pytest.raises(ValueError, match="have no answer"):
        compare(TASKS["GQA"], items(2), answers(["a", "b"]), answers(["a"]))
