"""`bindserve eval compare`: a paired test of two runs, and the answers that differ."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.eval import options
from server.logs import fail

if TYPE_CHECKING:
    from model_ext.eval.compare import Change, Comparison
    from model_ext.eval.render import Table


def compare(
    first: Annotated[Path, typer.Argument(help="The folder of a run (--out).")],
    second: Annotated[Path, typer.Argument(help="The folder of another run.")],
    data: options.Data,
    out: Annotated[
        Path | None, typer.Option(help="File for all changed answers, as JSON lines.")
    ] = None,
    listed: Annotated[
        int,
        typer.Option("--list", min=0, help="Maximum number of changed answers to print per task."),
    ] = 20,
) -> None:
    """Compare two runs on the same questions, with a paired permutation test for each task."""
    from model_ext.eval.compare import compare as compare_task
    from model_ext.eval.errors import DataError
    from model_ext.eval.render import markdown
    from server.cli.eval.stored import load_run, read_run

    try:
        run, tasks, questions = load_run(first, data)
        other = read_run(second)
        tasks = tuple(task for task in tasks if task.name in other.head.data)
        if not tasks:
            fail(f"{first} and {second} have no task in common")
        questions = {task.name: questions[task.name] for task in tasks}
        answers = [each.answers(questions) for each in (run, other)]
        comparisons = [
            compare_task(task, questions[task.name], answers[0][task.name], answers[1][task.name])
            for task in tasks
        ]
    except (DataError, ValueError) as e:
        fail(str(e))
    typer.echo(markdown(table(comparisons, str(first), str(second))))
    for comparison in comparisons:
        for change in comparison.changes[:listed]:
            typer.echo(f"{comparison.task.name}, {line(change)}")
    if out is not None:
        lines = (record(c.task.name, change) for c in comparisons for change in c.changes)
        out.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")


def table(comparisons: "list[Comparison]", first: str, second: str) -> "Table":
    from model_ext.eval.compare import SAMPLES
    from model_ext.eval.render import Table

    rows = [
        [
            comparison.task.name,
            f"{comparison.first:.2f}",
            f"{comparison.second:.2f}",
            f"{comparison.second - comparison.first:+.2f}",
            "{:+.2f} to {:+.2f}".format(*comparison.interval),
            f"{comparison.p:.4f}",
            str(len(comparison.changes)),
            str(comparison.better),
            str(comparison.worse),
            str(comparison.items),
        ]
        for comparison in comparisons
    ]
    header = ["Task", "first", "second", "difference", "95%", "p"]
    return Table(
        title="Comparison of two runs",
        header=[*header, "changed", "better", "worse", "items"],
        rows=rows,
        notes=[
            f"First: {first}. Second: {second}.",
            f"p: two-sided paired permutation test with {SAMPLES} permutations of the items.",
            "Changed: questions with different answers. Better, worse: questions whose score is "
            "higher or lower in the second run.",
        ],
        texts=1,
    )


def line(change: "Change") -> str:
    first, second = change.scores
    scores = "" if first == second else f" ({number(first)} to {number(second)})"
    return f"question {change.item.id}{scores}: {change.first!r} became {change.second!r}"


def number(score: float | None) -> str:
    return "-" if score is None else f"{score:.0f}"


def record(task: str, change: "Change") -> str:
    import json

    item = change.item
    return json.dumps(
        {
            "task": task,
            "id": item.id,
            "question": item.question,
            "answers": item.answers,
            "first": change.first,
            "second": change.second,
            "scores": change.scores,
        },
        ensure_ascii=False,
    )
