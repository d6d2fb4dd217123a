"""`bindserve eval` with a small fake server: tasks of a .jsonl file, the comparison of two runs,
control runs, and log-probabilities of candidates.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cache_index.build import build_from_features
from model_ext.config import ENCODERS_ALONE
from model_ext.eval.results import ANSWERS_FILE, read_results
from server.cli.eval.commands import app
from server.cli.eval.control_runs import second_server
from server.cli.eval.control_runs.table import COLUMNS
from tests.server.cli.eval.conftest import Server, question_of

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = ("cat", "dog", "cow", "owl")


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write questions about fake pictures and sounds. Each media file contains only the name of an
    object, as text.
    """
    rows = []
    for modality in ("image", "audio"):
        for name in NAMES:
            (tmp_path / f"{name}.{modality}").write_bytes(PNG + name.encode())
            rows.append(
                {
                    "id": f"{modality}/{name}",
                    "task": f"Demo {modality}",
                    "question": "What is this?",
                    "answers": [name],
                    modality: f"{name}.{modality}",
                    "metric": "vqa_containment",
                    "weights": {modality: 0.5},
                }
            )
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def shown(body: dict[str, Any]) -> str:
    """Return the name in the request's media file, or "nothing" without media."""
    part = body["messages"][0]["content"][0]
    if part["type"] == "text":
        return "nothing"
    data = part[part["type"]]["url"].partition(",")[2]
    return base64.b64decode(data).removeprefix(PNG).decode()


def ask(
    server: Server, data: Path, out: Path, *options: object, tasks: str = "demoimage"
) -> Result:
    return evaluate(server.url, "--data", data, "--tasks", tasks, "--out", out, *options)


def cells(text: str, task: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if f"| {task} |" in line]
    return [cell.strip() for cell in line.partition(f"| {task} |")[2].strip("|").split("|")]


def test_tasks_of_a_file_are_scored(server: Server, data: Path, tmp_path: Path) -> None:
    server.reply = lambda body: f"This is a {shown(body).replace('owl', 'bird')}."
    out = tmp_path / "run"
    result = ask(server, data, out, tasks="demo image,demo audio")
    assert result.exit_code == 0, result.output
    expected = ["vqa_containment", "vqa_exact", "75.00", "25.00-100.00", "0.00", "0.00-0.00"]
    assert cells(result.stdout, "Demo image") == [*expected, "0.00", "-", "4"]
    assert cells(result.stdout, "Demo audio")[2] == "75.00"
    assert "Table 1" not in result.stdout
    assert "8 questions in" in result.stderr
    kinds = {body["messages"][0]["content"][0]["type"] for body in server.bodies}
    assert kinds == {"image_url", "audio_url"}
    assert {body["messages"][0]["content"][0]["weight"] for body in server.bodies} == {0.5}
    page = (out / "wrong.html").read_text()
    assert page.count("<article>") == 2
    assert base64.b64encode(PNG + b"owl").decode() in page
    assert evaluate("score", out, "--data", data).stdout == result.stdout


def test_answers_of_another_file_are_not_scored(server: Server, data: Path, tmp_path: Path) -> None:
    assert ask(server, data, tmp_path / "run").exit_code == 0
    other = tmp_path / "other.jsonl"
    other.write_text(data.read_text().replace("Demo", "Other"))
    result = evaluate("score", tmp_path / "run", "--data", other)
    assert result.exit_code == 1
    assert "answers.jsonl, row 1: has answers to other tasks than" in result.stderr
    assert len(read_results(tmp_path / "run")[1]) == 4


def test_a_rejected_picture_stops_the_run_and_keeps_the_answers(
    server: Server, data: Path, tmp_path: Path
) -> None:
    server.reply = lambda body: 400 if shown(body) == "cow" else "cat"
    result = ask(server, data, tmp_path / "run", "--concurrency", 1)
    assert result.exit_code == 1
    assert f"{data}, row 3: Demo image, question image/cow: status 400" in result.stderr
    assert f"(the question's media: {tmp_path / 'cow.image'})" in result.stderr
    assert [key for _, key in read_results(tmp_path / "run")[1]] == ["image/cat", "image/dog"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Demo image", "Demo sound"), "row 3: has an answer of 'Demo sound', a task of another"),
        (("image/dog", "image/cot"), "row 3: 'image/cot' is not the id of a question of Demo im"),
        (("image/dog", "image/cat"), "row 3: the answer of ('Demo image', 'image/cat') is repeat"),
        (("{", "["), "row 3: is not valid JSON"),
    ],
)
def test_a_foreign_answer_is_named_and_kept(
    change: tuple[str, str], message: str, server: Server, data: Path, tmp_path: Path
) -> None:
    assert ask(server, data, tmp_path / "run", "--concurrency", 1).exit_code == 0
    answers = tmp_path / "run" / ANSWERS_FILE
    lines = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join([*lines[:2], lines[2].replace(*change, 1), *lines[3:]]))
    changed = answers.read_bytes()
    result = evaluate("score", tmp_path / "run", "--data", data)
    assert result.exit_code == 1
    assert f"{answers}, {message}" in result.stderr
    assert answers.read_bytes() == changed


def test_an_incomplete_run_is_not_scored(server: Server, data: Path, tmp_path: Path) -> None:
    assert ask(server, data, tmp_path / "run").exit_code == 0
    answers = tmp_path / "run" / ANSWERS_FILE
    answers.write_bytes(b"".join(answers.read_bytes().splitlines(keepends=True)[:-1]))
    result = evaluate("score", tmp_path / "run", "--data", data)
    assert f"{answers}: has no answer to 1 questions of Demo image" in result.stderr


def test_unknown_tasks_of_a_file(server: Server, data: Path, tmp_path: Path) -> None:
    result = ask(server, data, tmp_path / "run", tasks="demovideo")
    assert result.exit_code == 2
    assert "demoimage, demoaudio" in result.stderr


def test_compare_tests_and_lists_changes(server: Server, data: Path, tmp_path: Path) -> None:
    server.reply = shown
    assert ask(server, data, tmp_path / "a").exit_code == 0
    server.reply = lambda body: {"owl": "bird", "cat": "a cat"}.get(shown(body), shown(body))
    assert ask(server, data, tmp_path / "b").exit_code == 0
    changes = tmp_path / "changes.jsonl"
    arguments = [tmp_path / "a", tmp_path / "b", "--data", data, "--out", changes]
    result = evaluate("compare", *arguments)
    assert result.exit_code == 0, result.output
    row = cells(result.stdout, "Demo image")
    assert [row[0], row[1], row[2], *row[4:]] == [
        "100.00", "75.00", "-25.00", "1.0000", "2", "0", "1", "4",
    ]  # fmt: skip
    assert "question image/owl (100 to 0): 'owl' became 'bird'" in result.stdout
    assert "question image/cat: 'cat' became 'a cat'" in result.stdout
    rows = [json.loads(line) for line in changes.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["image/owl", "image/cat"]
    assert ask(server, data, tmp_path / "c", tasks="demoaudio").exit_code == 0
    other = evaluate("compare", tmp_path / "a", tmp_path / "c", "--data", data)
    assert other.exit_code == 1
    assert "no task in common" in other.stderr


def test_controls_in_one_table(
    server: Server, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Path, Path, list[str]]] = []

    @contextmanager
    def fake(model: Path, cache: Path, _log: Path, flags: Sequence[str]) -> Iterator[str]:
        started.append((model, cache, list(flags)))
        server.reply = lambda _: "cow"
        yield server.url

    def reply(body: dict[str, Any]) -> str:
        name = shown(body)
        return "Yes" if name == "cat" and body.get("imagebind") == {"cache": False} else name

    monkeypatch.setattr(second_server, "second_server", fake)
    write_model(tmp_path)
    server.reply = reply
    out = tmp_path / "out"
    arguments = [server.url, tmp_path / "model", "--data", data, "--tasks", "demo image"]
    result = evaluate("controls", *arguments, "--out", out, "--", "--enforce-eager")
    assert result.exit_code == 0, result.output
    values = cells(result.stdout, "Demo image")
    assert [values[0], *values[1:10:2], *values[11:]] == [
        "vqa_containment", "100.00", "75.00", "25.00", "0.00", "0.00", "0.00", "4",
    ]  # fmt: skip
    assert started == [(tmp_path / "model", out / "shuffled-cache", ["--enforce-eager"])]
    assert (out / "controls.tex").exists()
    assert read_results(out / "wrong-media")[0].wrong_media
    pages = {name: (out / name / "wrong.html").read_text() for name in COLUMNS}
    assert "<img" not in pages["text-only"]
    # With the wrong media, the question about the cat has the picture of the dog.
    cat = pages["wrong-media"].partition("<dd>image/cat</dd>")[0].rpartition("<article>")[2]
    assert base64.b64encode(PNG + b"dog").decode() in cat
    server.bodies.clear()
    again = evaluate("controls", *arguments, "--out", out)
    assert again.stdout == result.stdout
    assert (server.bodies, len(started)) == ([], 1)


def write_model(tmp_path: Path) -> None:
    """Write a model folder with only a configuration and the cache that it names."""
    sections = {
        "architectures": [ENCODERS_ALONE],
        "imagebind": {"embedding_dim": 4, "modalities": ["vision"]},
        "cache": {"folder": "memory"},
        "provenance": {"stage": "encoders"},
    }
    np.save(tmp_path / "features.npy", np.eye(4, dtype=np.float32))
    build_from_features(tmp_path / "features.npy", tmp_path / "model/memory", progress=False)
    (tmp_path / "model/config.json").write_text(json.dumps(sections))


def test_an_interrupted_shuffled_run_resumes_with_a_server_at_another_port(
    server: Server, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the URL of the second server was stored with the run, so that a run could not
    resume with a server at another port.
    """
    urls = iter([server.url, server.url.replace("127.0.0.1", "localhost")])

    @contextmanager
    def fake(*_: object) -> Iterator[str]:
        server.bodies.clear()
        yield next(urls)

    monkeypatch.setattr(second_server, "second_server", fake)
    write_model(tmp_path)
    arguments = [server.url, tmp_path / "model", "--data", data, "--tasks", "demo image"]
    arguments += ["--out", tmp_path / "out", "--concurrency", 1]

    def failing(body: dict[str, Any]) -> str | int:
        second = body["model"] == "tiny" and len(server.bodies) == 3
        return 400 if second and (tmp_path / "out/shuffled/answers.jsonl").exists() else "cow"

    server.reply = failing
    assert "status 400" in evaluate("controls", *arguments).stderr
    stored = read_results(tmp_path / "out/shuffled")[1]
    assert 0 < len(stored) < 4
    server.reply = lambda _: "cow"
    result = evaluate("controls", *arguments)
    assert result.exit_code == 0, result.output
    assert len(server.bodies) == 4 - len(stored)


def test_candidates_are_ranked_by_log_probability(server: Server, tmp_path: Path) -> None:
    """The fake tokenizer splits at spaces. The words of the prompt come first, then the words of
    the candidate.
    """
    row = {
        "id": "0", "task": "Visdial", "question": "Is it red?", "answers": [],
        "candidates": ["yes it is", "no", "red"], "truth_index": 1,
    }  # fmt: skip
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row))
    values = {"yes": -9.0, "it": -1.0, "is": -2.0, "no": -3.0, "red": -5.0}

    def reply(body: dict[str, Any]) -> str | dict[str, Any]:
        if "prompt_logprobs" not in body:
            return "yes it is"
        words = ["<s>", *question_of(body).split()]
        if len(body["messages"]) == 2:
            assert body["continue_final_message"]
            assert body["add_generation_prompt"] is False
            words += body["messages"][1]["content"].split()
        tokens = [{f"id {word}": {"logprob": values.get(word, -0.1)}} for word in words]
        return {"prompt_logprobs": [None, *tokens[1:]]}

    server.reply = reply
    out = tmp_path / "run"
    result = ask(server, path, out, "--rank-candidates", tasks="visdial")
    assert result.exit_code == 0, result.output
    ((_, stored),) = read_results(out)[1].items()
    assert stored.candidate_logprobs == [-4.0, -3.0, -5.0]
    assert cells(result.stdout, "Visdial")[8:12] == [
        "100.00", "100.00-100.00", "100.00", "100.00-100.00",
    ]  # fmt: skip
    # The option also adds log-probabilities to a run that was made without it.
    late = tmp_path / "late"
    assert ask(server, path, late, tasks="visdial").exit_code == 0
    server.bodies.clear()
    for sent in (4, 4):
        ranked = ask(server, path, late, "--rank-candidates", tasks="visdial")
        assert ranked.stdout == result.stdout
        assert len(server.bodies) == sent
    server.reply = lambda _: "yes"
    result = ask(server, path, tmp_path / "other", "--rank-candidates", tasks="visdial")
    assert "the response has no prompt_logprobs" in result.stderr


def test_imagebind_is_a_json_object(server: Server, data: Path, tmp_path: Path) -> None:
    options = ("--imagebind", '{"cache": false}')
    assert ask(server, data, tmp_path / "run", *options).exit_code == 0
    assert all(body["imagebind"] == {"cache": False} for body in server.bodies)
    assert ask(server, data, tmp_path / "run").exit_code == 1
    for text in ("[1]", "{"):
        result = ask(server, data, tmp_path / "bad", "--imagebind", text)
        assert result.exit_code == 2
        assert "is not a JSON object" in result.stderr
