"""Read the stored answers of a run and their questions, and write the tables and the page of the
run.
"""

from pathlib import Path
from typing import NamedTuple

from model_ext.eval.data import Questions, load_named
from model_ext.eval.errors import DataError
from model_ext.eval.item import MODALITIES, Item
from model_ext.eval.page import page
from model_ext.eval.render import latex, markdown
from model_ext.eval.results import (
    ANSWERS_FILE,
    Head,
    Key,
    Result,
    data_hash,
    read_results,
    row_of,
)
from model_ext.eval.score import TaskScore, score_task
from model_ext.eval.tables import Run, tables
from model_ext.eval.tasks.table import UnknownTask
from model_ext.eval.tasks.task import Task
from model_ext.eval.wrong_media import wrong_media

Answers = dict[str, dict[str, str]]  # task -> id -> text
PAGE_FILE = "wrong.html"


class StoredRun(NamedTuple):
    """The content of a run's answer file."""

    folder: Path
    head: Head
    results: dict[Key, Result]

    def answers(self, questions: Questions) -> Answers:
        """Return the answers by task and id.

        Removes white space at both ends, as LVLM-eHub does.

        Raises DataError: when the run was made with other questions, has no answer to a question,
        or has an answer to a question that does not exist.
        """
        path = self.folder / ANSWERS_FILE
        answers: Answers = {name: {} for name in questions}
        for name, items in questions.items():
            if self.head.data.get(name) != data_hash(items):
                raise DataError(path, f"has answers to other questions of {name}", 1)
        for (task, key), result in self.results.items():
            if task in answers:
                answers[task][key] = result.answer.strip()
        for name, items in questions.items():
            ids = {item.id for item in items}
            for key in answers[name].keys() - ids:
                row = row_of(self.folder, (name, key))
                raise DataError(path, f"{key!r} is not the id of a question of {name}", row)
            if missing := len(ids - answers[name].keys()):
                raise DataError(
                    path, f"has no answer to {missing} questions of {name}; resume the run"
                )
        return answers

    def logprobs(self) -> dict[str, dict[str, list[float]]]:
        """Return the log-probabilities of candidates, by task and id, for the questions that have
        them.
        """
        logprobs: dict[str, dict[str, list[float]]] = {}
        for (task, key), result in self.results.items():
            if result.candidate_logprobs is not None:
                logprobs.setdefault(task, {})[key] = result.candidate_logprobs
        return logprobs


def read_run(folder: Path) -> StoredRun:
    """Read a run's answer file. Raises DataError: when the file is not valid."""
    return StoredRun(folder, *read_results(folder))


def load_run(folder: Path, data: Path) -> tuple[StoredRun, tuple[Task, ...], Questions]:
    """A stored run, its tasks and their questions.

    Raises DataError: when the answers or the questions cannot be read.
    """
    run = read_run(folder)
    try:
        tasks, questions = load_named(data, ",".join(run.head.data), run.head.caption_prompt)
    except UnknownTask as e:
        raise DataError(folder / ANSWERS_FILE, f"has answers to other tasks than {data}", 1) from e
    return run, tasks, questions


def scores_of(
    run: StoredRun, tasks: tuple[Task, ...], questions: Questions, text_only: Path | None = None
) -> list[TaskScore]:
    """Score the stored answers of a run.

    Raises DataError or ValueError: when answers are missing or belong to other questions.
    """
    answers, logprobs = run.answers(questions), run.logprobs()
    blind = read_run(text_only).answers(questions) if text_only is not None else None
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
    run: StoredRun, tasks: tuple[Task, ...], questions: Questions, text_only: Path | None = None
) -> str:
    """Write tables.md, tables.tex and wrong.html to the run's folder. Return the tables."""
    folder, head = run.folder, run.head
    scores = scores_of(run, tasks, questions, text_only)
    source = f"answers of {head.url}" + conditions(head)
    results = tables(Run(model=head.model, decoding=head.decoding, source=source), scores)
    text = "\n".join(map(markdown, results))
    (folder / "tables.md").write_text(text, encoding="utf-8")
    (folder / "tables.tex").write_text("\n".join(map(latex, results)), encoding="utf-8")
    write_page(run, tasks, questions)
    return text


def write_page(run: StoredRun, tasks: tuple[Task, ...], questions: Questions) -> Path:
    """Write wrong.html, which shows the media that the run sent."""
    head = run.head
    path = run.folder / PAGE_FILE
    title = f"{head.model}, decoding {head.decoding}{conditions(head)}"
    sent = {name: sent_items(head, items) for name, items in questions.items()}
    path.write_text(page(title, tasks, sent, run.answers(questions)), encoding="utf-8")
    return path


def sent_items(head: Head, items: list[Item]) -> list[Item]:
    """Return the questions of a task, with the media that the run sent."""
    if head.text_only:
        return [item.model_copy(update=dict.fromkeys(MODALITIES)) for item in items]
    return wrong_media(items) if head.wrong_media else items


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
