"""The table of all control runs of a model."""

from collections.abc import Mapping
from pathlib import Path

from model_ext.eval.data import Questions
from model_ext.eval.render import Table, latex, markdown
from model_ext.eval.score import TaskScore
from model_ext.eval.tables import decimals, interval
from model_ext.eval.tasks.task import Task
from server.cli.eval.stored import read_run, scores_of, write_page

COLUMNS = {  # Name of a run's folder -> heading of its column.
    "cache-on": "cache on",
    "cache-off": "cache off",
    "shuffled": "cache shuffled",
    "wrong-media": "wrong media",
    "text-only": "text only",
}
NOTES = [
    "Cache on, off, shuffled: with the retrieval cache, without it, and with a cache whose vectors "
    "are permuted.",
    "Wrong media: each question with the media of another question. Text only: without media.",
    'Always yes: the score of the answer "Yes" to every question.',
    "95%: the bootstrap interval, over the items, of the column to its left.",
]


def write_controls(folder: Path, tasks: tuple[Task, ...], questions: Questions) -> str:
    """Write controls.md and controls.tex, and each run's page. Return the table as markdown.

    Raises DataError or ValueError: when a run is not complete.
    """
    runs: dict[str, dict[str, TaskScore]] = {}
    titles: dict[str, str] = {}
    for name in COLUMNS:
        run = read_run(folder / name)
        runs[name] = {s.task.name: s for s in scores_of(run, tasks, questions)}
        write_page(run, tasks, questions)
        titles[name] = f"{run.head.model}, decoding {run.head.decoding}"
    table = controls_table(titles["cache-on"], tasks, runs)
    text = markdown(table)
    (folder / "controls.md").write_text(text, encoding="utf-8")
    (folder / "controls.tex").write_text(latex(table), encoding="utf-8")
    return text


def controls_table(
    model: str, tasks: tuple[Task, ...], runs: Mapping[str, Mapping[str, TaskScore]]
) -> Table:
    rows = []
    for task in tasks:
        row = [task.name, task.metric]
        for name in COLUMNS:
            score = runs[name][task.name].ehub
            row += [decimals(score.value), interval(score)]
        always = runs["cache-on"][task.name].always_yes
        rows.append([*row, decimals(always.value), str(always.items)])
    header = [cell for column in COLUMNS.values() for cell in (column, "95%")]
    return Table(
        title=f"Control runs of {model}",
        header=["Task", "Metric", *header, "always yes", "items"],
        rows=rows,
        notes=NOTES,
        texts=2,
    )
