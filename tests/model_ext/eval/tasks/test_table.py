import pytest

from model_ext.eval.tasks.table import COGNITION, DATA_SETS, MME, PERCEPTION, TASKS, select_tasks


def test_has_27_data_sets_and_14_subtasks() -> None:
    assert len(DATA_SETS) == 27
    assert len(MME) == 14
    assert len(TASKS) == len({task.slug for task in TASKS.values()}) == 44


def test_kinds_choose_the_scorers() -> None:
    expected = {
        "OCR": ({"ocr_containment"}, {"ocr_letters"}, 12),
        "KIE": ({"kie_words"}, {"kie_entities"}, 2),
        "Caption": ({"cider_raw"}, {"cider_ptb"}, 2),
        "KGID": ({"vqa_containment"}, {"vqa_exact", "vqa_consensus"}, 2),
        "MME": ({"mme"}, {"mme_strict"}, 14),
    }
    for kind, (metrics, strict, count) in expected.items():
        tasks = [task for task in TASKS.values() if task.kind == kind]
        assert {task.metric for task in tasks} == metrics
        assert {task.strict for task in tasks} == strict
        assert len(tasks) == count


def test_mme_has_2374_questions() -> None:
    assert sum(PERCEPTION.values()) + sum(COGNITION.values()) == 2374


def test_captions_are_short() -> None:
    limits = {task.kind: task.max_tokens for task in TASKS.values()}
    assert limits.pop("Caption") == 16
    assert set(limits.values()) == {256}


def test_selects_by_name_in_any_spelling_once() -> None:
    tasks = select_tasks("iiit5k, Total-Text,total-text,mme, flickr")
    assert [task.name for task in tasks[:2]] == ["IIIT5K", "Total-Text"]
    assert len(tasks) == 17
    assert select_tasks("MME/OCR")[0].name == "MME/OCR"


@pytest.mark.parametrize(("names", "message"), [("imagenet", "imagenet"), (" , ", "empty")])
def test_rejects_unknown_names(names: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_tasks(names)
