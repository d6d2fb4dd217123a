"""The report of an invented load test, whose figures are easy to calculate."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.loadtest.compare import compare
from deploy.loadtest.outcome import Outcome, write_outcomes
from deploy.loadtest.report import write_report
from deploy.loadtest.results import Run

ANSWER = Outcome("10/s", "text", 0, 200, True, 0.2, 0.4, tokens=16)
REJECTION = Outcome("3x overload", "text", 0, 503, False, 0.01, 0.01)


def write_run(folder: Path, *, first_s: float = 0.2) -> Path:
    """Write the results of a load test with two stages of 10 s.

    Stage 1: 10 requests/s, all answered. Stage 2: 30 requests/s, of which 8.7/s are answered and
    the others rejected. Two requests are a damaged picture (rejected) and a lost connection.
    """
    folder.mkdir()
    quiet = [replace(ANSWER, due_s=k / 10, first_s=first_s) for k in range(100)]
    full = [
        replace(
            ANSWER if k % 10 < 3 and k % 100 else REJECTION, stage="3x overload", due_s=10 + k / 30
        )
        for k in range(300)
    ]
    hostile = Outcome("10/s", "hostile", 1, 400, True, 0.01, 0.01)
    lost = Outcome("10/s", "hostile", 2, 0, False, 0.5, 0.5, error="ConnectionResetError: gone")
    write_outcomes(folder / "outcomes.jsonl", [*quiet, *full, hostile, lost])
    memory = [
        {
            "at_s": 5 * k,
            "api_mb": 700 + k / 12,
            "all_mb": None,
            "descriptors": None,
            "processes": None,
        }
        for k in range(13)
    ]
    about = {"profile": "overload", "mix": "text", "first_s": 1, "total_s": 5, "memory": memory}
    about["stages"] = {"10/s": 10, "3x overload": 10}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


def test_the_figures_of_a_report(tmp_path: Path) -> None:
    report = write_report(write_run(tmp_path / "run")).read_text()
    rows = {
        line.split("|")[1].strip(): line for line in report.splitlines() if line.startswith("|")
    }
    cells = [cell.strip() for cell in rows["10/s"].split("|")]
    assert cells[2:6] == ["10.00", "10.00", "0.0%", "1"]
    assert cells[6] == "0.200"
    cells = [cell.strip() for cell in rows["3x overload"].split("|")]
    assert float(cells[2]) == pytest.approx(30, rel=0.01)
    assert float(cells[3]) == pytest.approx(8.7, rel=0.01)  # 87 good answers in 10 s
    assert cells[4] == "71.0%"
    assert "**0.87** of the peak" in report
    assert "+1.000" in rows["API process, MB"]  # The memory grows by 1/12 MB in 5 s.
    assert "1 x hostile, status 0: ConnectionResetError: gone" in report
    for image in ("goodput.png", "latency.png", "memory.png"):
        assert (tmp_path / "run" / image).stat().st_size > 1000


def test_two_runs_are_compared(tmp_path: Path) -> None:
    before, after = write_run(tmp_path / "a"), write_run(tmp_path / "b", first_s=0.4)
    text = compare(before, after, tmp_path / "out")
    line = next(line for line in text.splitlines() if "text: first token p50" in line)
    assert "worse" in line
    assert "2.00" not in next(line for line in text.splitlines() if "goodput" in line)
    assert (tmp_path / "out" / "compared.png").stat().st_size > 1000


def test_runs_with_different_mixes_are_not_compared(tmp_path: Path) -> None:
    before, after = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    about = Run(after).about | {"mix": "all"}
    (after / "run.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="differ in mix"):
        compare(before, after, tmp_path / "out")
