"""Test gpu_check.py: time limits and results of fake steps, and two real steps on a CPU."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path

import pytest

from deploy import gpu_check
from deploy.gpu import engine, processes, report
from deploy.gpu.report import StepResult
from deploy.gpu.rows import Row, Rows, read_rows
from deploy.gpu_check import Step
from model_ext.bench.engine import WORKLOADS, EngineResult
from model_ext.bench.pairs import Ratio

ROOT = Path(__file__).parents[2]


def fake(name: str, limit_s: float = 60) -> Step:
    return Step(name, "tests.deploy.fake_step", limit_s)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu_check.Run:
    # Replace these functions, which would kill children of the test process and wait for the GPU.
    monkeypatch.setattr(processes, "kill_descendants", lambda: None)
    monkeypatch.setattr(processes, "wait_until_free", lambda: None)
    monkeypatch.setattr(gpu_check, "MEASURED", {"measuring"})
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    deadline = time.monotonic() + 100
    return gpu_check.Run(
        tmp_path / "out", tmp_path / "work", "a card", "full", deadline, {}, dict(os.environ)
    )


def test_a_step_that_hangs_or_fails_stops_no_other(run: gpu_check.Run) -> None:
    hanging, failing, slow, fast = run.group(
        [fake("hanging", limit_s=3), fake("failing"), fake("slow"), fake("fast")]
    )
    assert hanging.status == "exceeded its limit of 3 s"
    # the step wrote this row before it was killed
    assert [row.name for row in hanging.rows] == ["speed"]
    child = int((run.work / "pid").read_text())
    # the step's child process was also killed, although it was in another session
    assert not alive(child)
    assert failing.status == "failed (exit code 1)"
    assert "no such card" in failing.log_tail
    assert (slow.status, [row.name for row in slow.missed]) == ("finished", ["speed"])
    assert [result.passed for result in (hanging, failing, slow, fast)] == [False] * 3 + [True]
    table = (run.out / report.TABLE).read_text()
    assert "exceeded its limit of 3 s" in table
    assert "at least 3 | **missed** |" in table


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_measurements_wait_until_the_others_have_finished(run: gpu_check.Run) -> None:
    measuring, _ = run.group([fake("measuring"), fake("checking")])
    assert measuring.passed
    assert [row.name for row in measuring.rows] == ["speed", "waited for the others"]


def test_no_step_runs_longer_than_the_whole_run(run: gpu_check.Run) -> None:
    run.deadline = time.monotonic() + 2
    (hanging,) = run.group([fake("hanging")])
    assert hanging.status == "exceeded its limit of 2 s"


def test_results_of_two_runs_are_merged(tmp_path: Path) -> None:
    def result(name: str, value: float) -> StepResult:
        row = Row("a | b", f"{value}", "at least 1", value >= 1, value)
        return StepResult(name, "finished", 1.5, "a card", "abc", (row,), "log")

    report.save(tmp_path, [result("engine", 2), result("server", 0.5)])
    merged = report.save(tmp_path, [result("server", 3)], ["server", "engine"])
    assert list(merged) == ["server", "engine"]
    assert [merged[name].rows[0].number for name in ("engine", "server")] == [2, 3]
    assert report.load(tmp_path) == merged
    assert json.loads((tmp_path / report.RESULTS).read_text())["server"]["status"] == "finished"
    assert (tmp_path / report.TABLE).read_text() == report.table(merged.values())
    assert "|  | a / b | 2 | at least 1 | reached |" in report.table(merged.values())


def test_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    assert read_rows(path) == []
    rows = Rows(path)
    rows.number("a", 12_345.6, "files/s", at_least=13_000)
    rows.number("b", 1.05, "", at_most=1.1, detail="[1, 1.1]")
    rows.check("c", True)
    with path.open("a") as file:
        file.write('{"name": "cut o')
    assert [(row.value, row.goal, row.reached) for row in read_rows(path)] == [
        ("12,346 files/s", "at least 13,000", False),
        ("1.05 [1, 1.1]", "at most 1.1", True),
        ("yes", "yes", True),
    ]


@pytest.mark.parametrize(
    ("name", "ratio", "reached"),
    [
        ("first-token", 1.05, True),
        ("first-token", 2.18, False),
        ("churn", 0.986, True),
        ("churn", 0.889, False),
        ("decode-256", 0.98, False),
    ],
)
def test_the_goals_of_the_engine(name: str, ratio: float, reached: bool, tmp_path: Path) -> None:
    measured = Ratio(ratio, ratio, ratio, 5)
    result = EngineResult(WORKLOADS["cuda"][name], measured, measured, None, 1.0, 1.0)
    engine.report(Rows(tmp_path / "full"), result, full=True)
    assert read_rows(tmp_path / "full")[0].reached is reached
    engine.report(Rows(tmp_path / "tiny"), result, full=False)
    assert read_rows(tmp_path / "tiny")[0].reached is None


def test_the_plugin_is_registered_without_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "entry_points", lambda **_: [])
    monkeypatch.setenv("PYTHONPATH", "/other")
    root, plugin, other = gpu_check.python_path(tmp_path).split(os.pathsep)
    assert (root, other) == (str(ROOT), "/other")
    (found,) = distributions(path=[plugin])
    assert [(each.group, each.value) for each in found.entry_points] == [
        ("vllm.general_plugins", "model_ext.plugin:register")
    ]


def test_groups() -> None:
    first, *others = gpu_check.groups([], side_by_side=True)
    assert [step.name for step in first] == ["engine", "goldens", "isolation"]
    assert all(len(group) == 1 for group in others)
    assert gpu_check.groups(["server"], side_by_side=True) == [others[2]]
    assert [step.name for (step,) in gpu_check.groups([], side_by_side=False)] == gpu_check.NAMES
    slowest = sum(max(step.limit_s for step in group) for group in gpu_check.GROUPS[:4])
    # The sum of the steps' limits may exceed TOTAL_S by half, because TOTAL_S also ends slow steps.
    assert slowest <= 1.5 * gpu_check.TOTAL_S


def test_an_unknown_step_is_a_usage_error(tmp_path: Path) -> None:
    command = [sys.executable, "deploy/gpu_check.py", "--only", "nothing", "--out", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "invalid choice: 'nothing'" in ended.stderr


@pytest.mark.engine
@pytest.mark.timeout(1500)
def test_goldens_and_isolation_on_model_runner_v2(tmp_path: Path) -> None:
    """Run the steps `goldens` and `isolation` on a CPU in Triton's interpreter, on small inputs."""
    command = [sys.executable, "deploy/gpu_check.py", "--out", str(tmp_path), "--tiny"]
    command += ["--only", "goldens", "--kind", "legacy", "--only", "isolation"]
    ended = subprocess.run([*command, "--requests", "50"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-8000:]
    results = report.load(tmp_path)
    assert set(results) == {"goldens", "isolation"}
    assert {row.name for row in results["goldens"].rows if row.reached} == {
        "legacy: greedy ids equal the recorded ids",
        "legacy: requests share cached blocks only if their embeddings are equal",
        "legacy: log-probabilities of the prompt equal the recorded ones",
        "legacy: the server uses Model Runner V2",
    }
