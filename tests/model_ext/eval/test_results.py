from pathlib import Path

import pytest

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.results import ANSWERS_FILE, Head, Result, ResultWriter, data_hash, read_results

HEAD = Head(
    url="http://host/v1",
    model="m",
    decoding="greedy",
    caption_prompt=None,
    text_only=False,
    data={"SVT": "0"},
)


def result(number: int, answer: str = "a\n\u2028é") -> Result:
    return Result(task="SVT", id=str(number), answer=answer, finish_reason="stop")


def write_run(folder: Path, *results: Result) -> Path:
    writer = ResultWriter.open(folder, HEAD)
    for each in results:
        writer.write(each)
    writer.close()
    return folder / ANSWERS_FILE


def test_answers_come_back_unchanged(tmp_path: Path) -> None:
    write_run(tmp_path / "run", result(0), result(1, ""))
    head, results = read_results(tmp_path / "run")
    assert head == HEAD
    assert list(results.values()) == [result(0), result(1, "")]


def test_every_torn_end_loses_only_the_last_line(tmp_path: Path) -> None:
    """If a process was killed while it wrote a line, the reader ignores only this last line."""
    path = write_run(tmp_path, result(0), result(1))
    data = path.read_bytes()
    last = data[:-1].rfind(b"\n") + 1
    for size in range(last, len(data)):
        path.write_bytes(data[:size])
        assert list(read_results(tmp_path)[1]) == [("SVT", "0")]
        write_run(tmp_path, result(1))
        assert path.read_bytes() == data


def test_a_torn_head_starts_the_run_again(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    write_run(tmp_path, result(0))
    assert list(read_results(tmp_path)[1]) == [("SVT", "0")]


@pytest.mark.parametrize("field", ["model", "decoding", "data", "text_only", "url"])
def test_a_run_with_other_settings_is_not_resumed(field: str, tmp_path: Path) -> None:
    path = write_run(tmp_path, result(0))
    data = path.read_bytes()
    values = {"model": "x", "decoding": "released", "data": {}, "text_only": True, "url": "y"}
    other = HEAD.model_copy(update={field: values[field]})
    with pytest.raises(DataError, match=f"another {field}"):
        ResultWriter.open(tmp_path, other)
    assert path.read_bytes() == data


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    writer = ResultWriter.open(tmp_path, HEAD)
    with pytest.raises(DataError, match="another process"):
        ResultWriter.open(tmp_path, HEAD)
    writer.close()
    ResultWriter.open(tmp_path, HEAD).close()


@pytest.mark.parametrize("line", [b"{}", b"nonsense", b"\xff", b""])
def test_complete_lines_that_are_not_valid_are_errors(line: bytes, tmp_path: Path) -> None:
    path = write_run(tmp_path, result(0))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(DataError):
        read_results(tmp_path)


def test_repeated_answers_and_missing_files_are_errors(tmp_path: Path) -> None:
    write_run(tmp_path, result(0), result(0))
    with pytest.raises(DataError, match=r"row 3: the answer of .* is repeated"):
        read_results(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path / "absent")


def test_log_probabilities_are_added_to_a_stored_answer(tmp_path: Path) -> None:
    ranked = result(0).model_copy(update={"candidate_logprobs": [-1.0]})
    write_run(tmp_path, result(0), ranked)
    assert list(read_results(tmp_path)[1].values()) == [ranked]
    for other in (ranked, result(0), ranked.model_copy(update={"answer": "b"})):
        write_run(tmp_path / "twice" / str(id(other)), ranked, other)
        with pytest.raises(DataError, match="is repeated"):
            read_results(tmp_path / "twice" / str(id(other)))


def test_the_hash_depends_on_questions_truths_and_order() -> None:
    items = [Item(id=str(n), task="t", question="Q?", answers=["a"]) for n in range(2)]
    changed = items[1].model_copy(update={"answers": ["b"]})
    filled = items[1].model_copy(update={"input": "A sign."})
    sets = (items, items[::-1], items[:1], [items[0], changed], [items[0], filled])
    assert len({data_hash(rows) for rows in sets}) == 5
