import json
from pathlib import Path

import pytest

from model_ext.eval.data import load_data, load_named
from model_ext.eval.errors import DataError
from model_ext.eval.tasks.table import select_tasks
from tests.model_ext.eval.read.folders import DATA_SETS, write


def test_a_folder_holds_several_tasks(tmp_path: Path) -> None:
    write(tmp_path, DATA_SETS["SVT"] | DATA_SETS["GQA"])
    questions = load_data(tmp_path, select_tasks("gqa,svt"))
    assert {name: len(items) for name, items in questions.items()} == {"GQA": 1, "SVT": 2}


def test_the_rows_of_a_jsonl_file_name_their_task(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [
        {"id": str(n), "task": task, "question": "Q?", "answers": ["a"]}
        for n, task in enumerate(["GQA", "SVT", "GQA"])
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    _, questions = load_named(path, "gqa")
    assert [item.id for item in questions["GQA"]] == ["0", "2"]
    with pytest.raises(DataError, match="has no question of the task VSR"):
        load_named(path, "vsr")


def test_a_tsv_file_holds_one_data_set_or_mme(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    (tmp_path / "a.png").touch()
    path.write_text(
        "index\timage_path\tquestion\tanswer\tcategory\n0\ta.png\tQ?\tYes\tcolor\n"
        "1\ta.png\tQ?\tNo\tcolor\n"
    )
    assert len(load_data(path, select_tasks("gqa"))["GQA"]) == 2
    assert len(load_data(path, select_tasks("mme/color"))["MME/color"]) == 2
    with pytest.raises(DataError, match="has no question of the task MME/existence"):
        load_data(path, select_tasks("mme"))
    with pytest.raises(DataError, match="2 tasks were named"):
        load_data(path, select_tasks("gqa,vsr"))


def test_a_file_of_gpt4tools_is_a_task(tmp_path: Path) -> None:
    path = tmp_path / "gpt4tools_val_seen.json"
    rows = [{"instruction": "TOOLS:", "input": "", "output": "Thought: x", "id": n} for n in "ab"]
    path.write_text(json.dumps(rows))
    (task,), questions = load_named(path, "all")
    assert (task.metric, task.strict) == ("tool_success", "tool_strict")
    (items,) = questions.values()
    assert [(item.question, item.answers) for item in items] == [("TOOLS:", ["Thought: x"])] * 2
    path.write_text("[{}]")
    with pytest.raises(DataError, match="instruction"):
        load_named(path, "all")


def test_media_of_earlier_turns_are_below_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    (tmp_path / "a.png").touch()
    row = {"id": "0", "task": "GQA", "question": "And now?", "answers": ["a"]}
    earlier = {"question": "What?", "answer": "A cat.", "image": "a.png"}
    path.write_text(json.dumps({**row, "earlier": [earlier]}))
    _, questions = load_named(path, "gqa")
    (turn,) = questions["GQA"][0].earlier
    assert turn.image == str(tmp_path / "a.png")
    path.write_text(json.dumps({**row, "earlier": [{**earlier, "image": "../b.png"}]}))
    with pytest.raises(DataError, match="not a path below"):
        load_named(path, "gqa")
