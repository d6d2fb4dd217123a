"""The stored answers of a run, with their questions; the tables and the page of a run."""

from collections.abc import Mapping
from pathlib import Path

from model_ext.eval.data import Questions, load_named
from model_ext.eval.errors import DataError
from model_ext.eval.page import page
from model_ext.eval.render import latex, markdown
from model_ext.eval.results import ANSWERS_FILE, Head, data_hash, read_results
from model_ext.eval.score import TaskScore, score_task
from model_ext.eval.tables import Run, tables
from model_ext.eval.tasks.table import UnknownTask
from model_ext.eval.tasks.task import Task

Answers = dict[str, dict[str, str]]  # task -> id -> text
PAGE_FILE = "wrong.html"


def load_run(folder: Path, data: Path) -> tuple[Head, tuple[Task, ...], Questions]:
    """The settings of a run, its tasks and their questions.

    Raises DataError: when the answers or the questions cannot be read.
    """
    head, _ = read_results(folder)
    try:
        tasks, questions = load_named(data, ",".join(head.data), head.caption_prompt)
    except UnknownTask as e:
        raise DataError(folder / ANSWERS_FILE, f"has answers to other tasks than {data}", 1) from e
    return head, tasks, questions


def stored_answers(folder: Path, questions: Questions) -> Answers:
    """Answers by task and id, stripped as LVLM-eHub's model wrappers strip them.

    Raises DataError: when the run was made with other questions.
    """
    head, results = read_results(folder)
    answers: Answers = {name: {} for name in questions}
    for name, items in questions.items():
        if head.data.get(name) != data_hash(items):
            raise DataError(folder / ANSWERS_FILE, f"has answers to other questions of {name}", 1)
    for (task, key), result in results.items():
        if task in answers:
            answers[task][key] = result.answer.strip()
    return answers


def stored_logprobs(folder: Path) -> dict[str, dict[str, list[float]]]:
    """The log-probabilities of candidates, by task and id, of the questions that have them."""
    logprobs: dict[str, dict[str, list[float]]] = {}
    for (task, key), result in read_results(folder)[1].items():
        if result.candidate_logprobs is not None:
            logprobs.setdefault(task, {})[key] = result.candidate_logprobs
    return logprobs


def scores_of(
    folder: Path, tasks: tuple[Task, ...], questions: Questions, text_only: Path | None = None
) -> list[TaskScore]:
    """Score the stored answers of a run.

    Raises DataError or ValueError: when answers are missing or belong to other questions.
    """
    answers = stored_answers(folder, questions)
    logprobs = stored_logprobs(folder)
    blind = stored_answers(text_only, questions) if text_only is not None else None
    return [
        score_task(
            task,
            questions[task.name],
            answers[task.name],
            blind[task.name] if blind is not None else None,
            logprobs.get(task.name, {}),
        )
        for task in tasks
    ]


def write_tables(
    folder: Path,
    head: Head,
    tasks: tuple[Task, ...],
    questions: Questions,
    text_only: Path | None = None,
) -> str:
    """Write tables.md, tables.tex and wrong.html to the run's folder. Return the tables."""
    scores = scores_of(folder, tasks, questions, text_only)
    source = f"answers of {head.url}" + conditions(head)
    results = tables(Run(model=head.model, decoding=head.decoding, source=source), scores)
    text = "\n".join(map(markdown, results))
    (folder / "tables.md").write_text(text, encoding="utf-8")
    (folder / "tables.tex").write_text("\n".join(map(latex, results)), encoding="utf-8")
    write_page(folder, head, tasks, questions)
    return text


def write_page(folder: Path, head: Head, tasks: tuple[Task, ...], questions: Questions) -> Path:
    answers: Mapping[str, Mapping[str, str]] = stored_answers(folder, questions)
    path = folder / PAGE_FILE
    title = f"{head.model}, decoding {head.decoding}{conditions(head)}"
    path.write_text(page(title, tasks, questions, answers), encoding="utf-8")
    return path


def conditions(head: Head) -> str:
    parts = [", without media"] * head.text_only + [", with wrong media"] * head.wrong_media
    parts += [] if head.imagebind is None else [f", imagebind {head.imagebind}"]
    return "".join(parts)


def is_complete(folder: Path, questions: Questions) -> bool:
    """Whether a run has an answer to each of the questions."""
    if not (folder / ANSWERS_FILE).exists():
        return False
    _, results = read_results(folder)
    return all((name, item.id) in results for name, items in questions.items() for item in items)
