"""The files of results, without an application."""

import json
from pathlib import Path

from server.api.batches.in_process import BatchAnswer
from server.api.batches.lines import BatchLine
from server.api.batches.results import BatchResults, ResultFile, read_results


def test_results_beyond_the_limit_become_errors(tmp_path: Path) -> None:
    files = [ResultFile.open(tmp_path / name) for name in ("output", "errors")]
    results = BatchResults("0" * 32, *files, max_bytes=300)
    lines = [BatchLine(number, str(number), 0, 1) for number in (1, 2)]
    for number in (1, 2, 2):
        results.add(lines[number - 1], BatchAnswer(200, body=b'{\n"a": 1}'))
    results.close()
    # A result that arrives after `close` has no effect.
    results.add(BatchLine(3, "3", 0, 1), BatchAnswer(200))
    (output,) = (tmp_path / "output").read_text().splitlines()
    assert json.loads(output)["response"]["body"] == {"a": 1}
    (error,) = (tmp_path / "errors").read_text().splitlines()
    assert json.loads(error)["error"]["code"] == "output_too_large"
    assert read_results(tmp_path / "output")[0] == {1}


def test_an_incomplete_last_line_is_cut_off(tmp_path: Path) -> None:
    """The file ends with the part of a line that a killed server wrote."""
    path = tmp_path / "results"
    whole = b'{"id": "batch_req_' + b"0" * 32 + b'_7", "custom_id": "a"}\n'
    path.write_bytes(whole + whole[:40])
    file = ResultFile.open(path)
    assert file.numbers == {7}
    file.append(8, whole.replace(b"_7", b"_8"))
    file.close()
    assert path.read_bytes() == whole + whole.replace(b"_7", b"_8")
