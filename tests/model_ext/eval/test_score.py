from typing import Any, get_args

import pytest

from model_ext.eval.bootstrap import Estimate
from model_ext.eval.item import Item
from model_ext.eval.metrics import METRICS, estimate
from model_ext.eval.score import TOOL_METRICS, score_task
from model_ext.eval.tasks.table import COGNITION, PERCEPTION, TASKS
from model_ext.eval.tasks.task import Metric
from tests.model_ext.eval.goldens import TOLERANCE, as_list, cases


def item(number: int, answers: list[str], **fields: Any) -> Item:
    return Item(id=str(number), task="t", question="Q?", answers=answers, **fields)


def test_every_metric_of_the_table_has_a_rule() -> None:
    metrics = {m for task in TASKS.values() for m in (task.metric, task.strict)}
    others = {"vqa_every", "contains_any", *TOOL_METRICS}
    assert metrics | others == METRICS.keys() == set(get_args(Metric))


def test_means_of_the_recorded_answers() -> None:
    rows = cases("vqa")
    items = [item(n, as_list(row[1])) for n, row in enumerate(rows)]
    for metric, column in (("vqa_containment", 2), ("vqa_exact", 3)):
        result = estimate(metric, items, [row[0] for row in rows], "t")
        expected = 100 * sum(row[column] for row in rows) / len(rows)
        assert result.value == pytest.approx(expected, abs=TOLERANCE)


def test_ocr_leaves_out_truths_without_letters() -> None:
    rows = cases("ocr")
    items = [item(n, [row[1]]) for n, row in enumerate(rows)]
    result = score_task(TASKS["SVT"], items, {str(n): row[0] for n, row in enumerate(rows)})
    strict = [row[3] for row in rows if row[3] is not None]
    assert result.strict is not None
    assert result.strict.items == len(strict) < result.ehub.items == len(rows)
    assert result.strict.value == pytest.approx(100 * sum(strict) / len(strict), abs=TOLERANCE)


def test_ocr_without_any_letters_has_no_strict_score() -> None:
    assert score_task(TASKS["SVT"], [item(0, ["$"])], {"0": "$"}).strict is None


def test_recorded_corpora_of_kie_and_captions() -> None:
    for pairs, _, prf, error, strict in cases("kie"):
        items = [item(n, [truth]) for n, (truth, _) in enumerate(pairs)]
        answers = [answer for _, answer in pairs]
        words = estimate("kie_words", items, answers, "t").value
        assert words == pytest.approx(0 if error else prf[2], abs=TOLERANCE)
        entities = estimate("kie_entities", items, answers, "t").value
        assert entities == pytest.approx(strict, abs=TOLERANCE)
    for rows, raw, _, official, _ in cases("cider"):
        items = [item(n, references) for n, (_, references) in enumerate(rows)]
        answers = [answer for answer, _ in rows]
        for metric, value in (("cider_raw", raw), ("cider_ptb", official)):
            result = estimate(metric, items, answers, "t").value
            assert result == pytest.approx(100 * value, abs=100 * TOLERANCE)


def test_recorded_runs_of_mme() -> None:
    for rows, scores, sums in cases("mme_runs"):
        results = {}
        for name, lines in rows.items():
            items = [item(n, [line[2]], pair=line[0]) for n, line in enumerate(lines)]
            answers = {str(n): line[3] for n, line in enumerate(lines)}
            results[name] = score_task(TASKS[f"MME/{name}"], items, answers)
            assert results[name].ehub.value == pytest.approx(scores[name], abs=TOLERANCE)
        for group, subtasks in (("perception", PERCEPTION), ("cognition", COGNITION)):
            total = Estimate.total([results[name].ehub for name in subtasks])
            assert total.value == pytest.approx(sums[group], abs=1e-6)


def test_always_yes_and_text_only() -> None:
    items = [item(n, [truth], pair="a") for n, truth in enumerate(["Yes", "No"])]
    answers = {"0": "yes", "1": "no"}
    result = score_task(TASKS["MME/color"], items, answers, text_only={"0": "no", "1": "no"})
    assert result.ehub.value == 200
    assert result.always_yes.value == 50
    assert result.text_only is not None
    assert result.text_only.value == 50


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"0": "a"}, "1 ids have no answer: 1"),
        ({"0": "a", "1": "b", "x": "c"}, "1 ids are not questions of the task: x"),
    ],
)
def test_rejects_answers_of_another_task(answers: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_task(TASKS["GQA"], [item(0, ["a"]), item(1, ["b"])], answers)


@pytest.mark.parametrize(
    ("metric", "fields", "message"),
    [
        ("mme", {"answers": ["Yes"]}, "needs `pair`"),
        ("mme", {"answers": ["Yes"], "pair": "a"}, "picture .* has 1 questions, not 2"),
        ("ocr_containment", {"answers": []}, "no answer to compare"),
        ("vqa_consensus", {"answers": ["a"]}, "the consensus needs 10 answers, not 1"),
        ("visdial_exact", {"answers": []}, "needs candidates"),
        ("visdial_exact", {"answers": [], "candidates": ["a"], "truth_index": 1}, "candidates"),
        ("cider_raw", {"answers": []}, "no reference"),
    ],
)
def test_rejects_items_that_do_not_fit_the_metric(
    metric: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(metric, [item(0, **fields)], ["a"], "t")


def test_log_probabilities_rank_the_right_candidate() -> None:
    items = [item(n, [], candidates=["no", "yes", "red"], truth_index=n) for n in range(2)]
    answers = {"0": "red", "1": "yes"}
    exact = score_task(TASKS["Visdial"], items, answers).strict
    assert exact is not None
    assert exact.value == 50
    logprobs = {"0": [-2.0, -1.0, -3.0], "1": [-2.0, -2.0, -0.5]}
    ranked = score_task(TASKS["Visdial"], items, answers, logprobs=logprobs).strict
    assert ranked is not None
    assert ranked.value == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)
    without = score_task(TASKS["Visdial"], items, answers, logprobs={"0": [0.0]}).strict
    assert without is not None
    assert without.value == exact.value
