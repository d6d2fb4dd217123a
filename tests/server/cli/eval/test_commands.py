"""`bindserve eval`, which sends its questions to a small fake server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from model_ext.eval.results import ANSWERS_FILE, read_results
from model_ext.eval.tasks.table import COGNITION, PERCEPTION
from server.cli.eval.commands import app
from tests.model_ext.eval.read.folders import write
from tests.server.cli.eval.conftest import Server, question_of

PICTURES = 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    top = "data/MME_Benchmark_release_version/color"
    for n in range(PICTURES):
        write(tmp_path, {f"{top}/{n}.txt": f"Is {n} red?\tYes\nIs {n} blue?\tNo\n"})
        write(tmp_path, {f"{top}/{n}.jpg": "picture"})
    return tmp_path / "data"


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ask(server: Server, data: Path, out: Path, *options: object) -> Result:
    return evaluate(server.url, "--data", data, "--tasks", "mme/color", "--out", out, *options)


def row(out: Path, name: str = "color") -> list[str]:
    """Return the cells of tables.md that contain this run's results for a subtask of MME."""
    lines = (out / "tables.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][7:]


def test_always_yes_scores_fifty(server: Server, data: Path, tmp_path: Path) -> None:
    result = ask(server, data, tmp_path / "run", "--api-key", "k", "--concurrency", 3)
    assert result.exit_code == 0, result.output
    assert "| color" in result.output
    assert row(tmp_path / "run") == [
        "50.00", "50.00-50.00", "50.00", "50.00-50.00", "50.00", "-", "20",
    ]  # fmt: skip
    assert "tabular" in (tmp_path / "run" / "tables.tex").read_text()
    assert set(server.headers) == {"Bearer k"}
    assert server.peak <= 3
    body = server.bodies[0]
    assert body["model"] == "tiny"
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.1, 0.75, 0)
    assert body["max_tokens"] == 256
    picture, _ = body["messages"][0]["content"]
    assert picture == {
        "type": "image_url",
        "image_url": {"url": "data:image/jpeg;base64,cGljdHVyZQ=="},
    }


def test_a_server_that_always_says_yes_gets_a_quarter_of_mme(
    server: Server, tmp_path: Path
) -> None:
    """In each of the 14 subtasks, half of the questions and no picture are right: 50 of 200."""
    for subtask in (*PERCEPTION, *COGNITION):
        top = f"data/MME_Benchmark_release_version/{subtask}"
        for n in range(2):
            write(tmp_path, {f"{top}/{n}.txt": f"Is {n} red?\tYes\nIs {n} blue?\tNo\n"})
            write(tmp_path, {f"{top}/{n}.jpg": f"{subtask} {n}"})
    server.reply = lambda _: "yes"
    arguments = ["--data", tmp_path / "data", "--tasks", "mme", "--out", tmp_path / "run"]
    result = evaluate(server.url, *arguments)
    assert result.exit_code == 0, result.output
    assert len(server.bodies) == 14 * 4
    assert row(tmp_path / "run", "sum (2000)") == [
        "500.00", "500.00-500.00", "500.00", "500.00-500.00", "500.00", "-", "20",
    ]  # fmt: skip
    assert row(tmp_path / "run", "sum (800)")[:1] == ["200.00"]


# The answers to a picture's questions whose correct answers are Yes and No, computed by hand:
# correct answers by MME's rule (the first four characters), and by the strict rule (yes or no
# among the words).
TEN_PICTURES = [
    ("Yes, it is.", "No.", 2, 2),
    ("yes", "no, it is blue", 2, 2),
    ("Yes", "Yes", 1, 1),
    ("No", "No", 1, 1),
    ("The answer is yes", "No", 1, 2),  # MME's label of the first answer is "other"
    ("eyes", "No", 2, 1),  # the first four characters contain "yes"
    ("I think so", "not sure", 1, 0),  # "not " contains "no"
    ("maybe", "perhaps", 0, 0),  # both labels are "other"
    ("YES!", "Nope", 2, 1),
    ("No", "Yes", 0, 0),
]


def test_ten_pictures_of_mme_by_hand(server: Server, tmp_path: Path) -> None:
    """12 of 20 answers and 4 of 10 pictures are right: 60 + 40 points. By the strict rule, 10
    answers and 3 pictures are right: 50 + 30 points.
    """
    answers: dict[str, str] = {}
    for n, (first, second, *_) in enumerate(TEN_PICTURES):
        top = "data/MME_Benchmark_release_version/color"
        write(tmp_path, {f"{top}/{n}.txt": f"Is {n} red?\tYes\nIs {n} blue?\tNo\n"})
        write(tmp_path, {f"{top}/{n}.jpg": "picture"})
        answers |= {f"Is {n} red?": first, f"Is {n} blue?": second}
    server.reply = lambda body: answers[question_of(body)]
    assert ask(server, tmp_path / "data", tmp_path / "run").exit_code == 0
    assert row(tmp_path / "run")[::2] == ["100.00", "80.00", "50.00", "10"]
    for right, points in (
        ([official for *_, official, _ in TEN_PICTURES], 60 + 40),
        ([strict for *_, strict in TEN_PICTURES], 50 + 30),
    ):
        assert 100 * (sum(right) / 20 + right.count(2) / 10) == points


def test_text_only_is_a_column_of_the_scored_run(
    server: Server, data: Path, tmp_path: Path
) -> None:
    server.reply = lambda body: "yes" if "red" in question_of(body) else "no"
    assert ask(server, data, tmp_path / "run", "--decoding", "greedy").exit_code == 0
    server.bodies.clear()
    server.reply = lambda _: "no"
    assert ask(server, data, tmp_path / "blind", "--text-only").exit_code == 0
    assert {len(body["messages"][0]["content"]) for body in server.bodies} == {1}
    server.bodies.clear()
    result = evaluate("score", tmp_path / "run", "--data", data, "--text-only", tmp_path / "blind")
    assert result.exit_code == 0, result.output
    assert row(tmp_path / "run")[0] == "200.00"
    assert row(tmp_path / "run")[5] == "50.00"
    assert server.bodies == []
    assert "decoding greedy" in result.output


def test_requests_are_retried(server: Server, data: Path, tmp_path: Path) -> None:
    server.reply = lambda body: "Yes" if server.asked()[question_of(body)] > 1 else 503
    result = ask(server, data, tmp_path / "run", "--concurrency", 40)
    assert result.exit_code == 0, result.output
    assert set(server.asked().values()) == {2}
    assert len(read_results(tmp_path / "run")[1]) == 2 * PICTURES


@pytest.mark.parametrize(("status", "retries", "requests"), [(400, 5, 1), (503, 1, 2)])
def test_an_error_names_the_question_and_keeps_the_answers(
    status: int, retries: int, requests: int, server: Server, data: Path, tmp_path: Path
) -> None:
    server.reply = lambda body: status if " 7 blue" in question_of(body) else "Yes"
    options = ("--concurrency", 1, "--retries", retries)
    result = ask(server, data, tmp_path / "run", *options)
    assert result.exit_code == 1
    assert (
        f"color/7.txt, row 2: MME/color, question MME/color/7.jpg/2: status {status}"
        in result.stderr
    )
    assert "color/7.jpg)" in result.stderr
    failed = "Is 7 blue?"
    assert server.asked()[failed] == requests
    stored = {key for _, key in read_results(tmp_path / "run")[1]}
    assert stored
    server.reply = lambda _: "Yes"
    assert ask(server, data, tmp_path / "run", *options).exit_code == 0
    assert server.asked().pop(failed) == requests + 1
    assert {count for text, count in server.asked().items() if text != failed} == {1}


def test_kill_and_resume(server: Server, data: Path, tmp_path: Path) -> None:
    """A resumed run sends only the questions that have no stored answer."""

    def slow(body: dict[str, Any]) -> str:
        time.sleep(0.05)
        return "yes" if "red" in question_of(body) else "no"

    server.reply = slow
    out = tmp_path / "run"
    answers = out / ANSWERS_FILE
    arguments = [server.url, "--data", data, "--tasks", "mme/color", "--out", out]
    command = [sys.executable, "-m", "server.cli.main", "eval", *map(str, arguments)]
    # the questions whose answers were stored when the run was killed for the last time
    stored: set[str] = set()
    for lines in (5, 20):
        process = subprocess.Popen(
            [*command, "--concurrency", "2"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        while process.poll() is None:
            if answers.exists() and answers.read_bytes().count(b"\n") > lines:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        assert process.wait(timeout=60) == -signal.SIGKILL
        time.sleep(0.2)  # Wait while the fake server finishes the requests of the killed process.
        assert not stored & server.asked().keys()
        stored = {question_with_id(result.id) for result in read_results(out)[1].values()}
        assert lines <= len(stored) < 2 * PICTURES
        server.bodies.clear()
    assert ask(server, data, out).exit_code == 0
    assert len(server.bodies) == 2 * PICTURES - len(stored)
    assert not stored & server.asked().keys()
    assert ask(server, data, tmp_path / "full").exit_code == 0
    assert (out / "tables.md").read_text() == (tmp_path / "full" / "tables.md").read_text()


def question_with_id(key: str) -> str:
    *_, picture, number = key.split("/")
    return f"Is {Path(picture).stem} {'red' if number == '1' else 'blue'}?"


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"--tasks": "imagenet"}, 2, "unknown task 'imagenet'"),
        ({"--tasks": "svt"}, 1, "test_label.txt"),
        ({"--data": "absent"}, 1, "has no texts of questions"),
        ({"url": "ftp://x"}, 2, "does not start with http:// or https://"),
        ({"url": "http://127.0.0.1:9", "--retries": "0"}, 1, "the list of models"),
    ],
)
def test_wrong_usage_is_one_line(
    change: dict[str, str], code: int, message: str, server: Server, data: Path, tmp_path: Path
) -> None:
    options = {"--data": str(data), "--tasks": "mme/color", "--out": str(tmp_path / "run")}
    options |= {name: value for name, value in change.items() if name != "url"}
    flat = [text for pair in options.items() for text in pair]
    result = evaluate(change.get("url", server.url), *flat)
    assert result.exit_code == code
    assert message in result.stderr
    assert server.bodies == []


def test_answers_to_other_questions_are_not_scored(
    server: Server, data: Path, tmp_path: Path
) -> None:
    assert ask(server, data, tmp_path / "run").exit_code == 0
    (data / "MME_Benchmark_release_version/color/0.txt").write_text("Other?\tYes\nMore?\tNo\n")
    result = evaluate("score", tmp_path / "run", "--data", data)
    assert result.exit_code == 1
    assert "answers.jsonl, row 1: has answers to other questions of MME/color" in result.stderr
    assert "another data" in ask(server, data, tmp_path / "run").stderr
    assert len(server.bodies) == 2 * PICTURES


def test_a_run_that_does_not_exist(data: Path, tmp_path: Path) -> None:
    result = evaluate("score", tmp_path / "absent", "--data", data)
    assert result.exit_code == 1
    assert "answers.jsonl: cannot be read" in result.stderr


def test_help_names_both_forms() -> None:
    result = evaluate("--help")
    assert result.exit_code == 0
    assert "eval score RUN" in result.output
