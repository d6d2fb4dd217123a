import json
from pathlib import Path

import pytest

from model_ext.eval.errors import DataError
from model_ext.eval.read.answers import EhubAnswer, read_ehub_answers, read_ehub_results

RECORD = {"question": "Q?", "answer": "a", "gt_answers": "a", "image_path": "x.jpg", "MRR": 0.5}


def test_answers(tmp_path: Path) -> None:
    path = tmp_path / "Visdial.json"
    path.write_text(json.dumps([RECORD, {**RECORD, "gt_answers": ["a", 3]}]))
    first, second = read_ehub_answers(path)
    assert first == EhubAnswer("Q?", "a", ["a"], "x.jpg", {"mrr": 0.5})
    assert second.truths == ["a", "3"]


@pytest.mark.parametrize("records", [{}, [3], [{"question": "Q?"}], [{**RECORD, "answer": None}]])
def test_rejects_other_files(records: object, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(records))
    with pytest.raises(DataError):
        list(read_ehub_answers(path))


def test_results(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    results = {"IC15": 0.1194, "SROIE": "Precision: 1.000 Recall: 2.500 F1: 1.429"}
    path.write_text(json.dumps(results))
    assert read_ehub_results(path) == {"IC15": 0.1194, "SROIE": 1.429}
    path.write_text('{"SROIE": "F1: high"}')
    with pytest.raises(DataError, match="row SROIE"):
        read_ehub_results(path)
