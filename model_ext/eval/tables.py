"""The paper's tables 1 to 4, with the scores of a run beside the paper's columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from model_ext.eval.bootstrap import Estimate
from model_ext.eval.paper import MME_SOURCE, TABLE_SOURCE, paper
from model_ext.eval.render import Table
from model_ext.eval.score import TOOL_METRICS, TaskScore
from model_ext.eval.tasks.decoding import Decoding
from model_ext.eval.tasks.table import COGNITION, PERCEPTION

NONE = "-"
COLUMNS = ["", "95%", "strict", "strict 95%", "always yes", "text only", "items"]
TOOL_COLUMNS = ["SR_t", "SR_act", "SR_args", "SR", "IoU", "strict", "false calls"]
TITLES = {1: "OCR, KIE and captioning", 2: "VQA and KGID"}


@dataclass(frozen=True)
class Run:
    """The model that was evaluated.

    `tokens`: the number of prompt tokens of an attachment, or None if unknown.
    """

    model: str
    decoding: Decoding
    source: str
    tokens: int | None = None


def paper_table(number: int, run: Run, scores: Mapping[str, TaskScore]) -> Table:
    """Make table 1 or 2. For a data set without a score in this run, only the columns of the
    paper's models have values.

    Raises ValueError: when the number is not 1 or 2.
    """
    if number not in TITLES:
        raise ValueError(f"table {number} has no data sets; choose 1 or 2")
    figures = paper()
    tokens = NONE if run.tokens is None else str(run.tokens)
    rows = [["", "#Token", "", *map(str, figures.tokens), tokens, *[NONE] * (len(COLUMNS) - 1)]]
    for row in figures.rows:
        if row.table == number:
            values = map(decimals, row.values)
            rows.append([row.kind, row.data_set, row.metric, *values, *cells(scores, row.data_set)])
    return Table(
        title=f"Table {number}: {TITLES[number]}",
        header=["Task", "Data set", "Metric", *figures.models, *own_header(run)],
        rows=rows,
        notes=notes(run, f"Columns {figures.models[0]} to {figures.models[-1]}: {TABLE_SOURCE}."),
        texts=3,
    )


def mme_table(number: int, run: Run, scores: Mapping[str, TaskScore]) -> Table:
    """Make table 3 (perception) or 4 (cognition). The row with the sum appears only if all subtasks
    have scores.

    Raises ValueError: when the number is not 3 or 4.
    """
    if number not in (3, 4):
        raise ValueError(f"table {number} has no subtasks of MME; choose 3 or 4")
    group, subtasks = ("perception", PERCEPTION) if number == 3 else ("cognition", COGNITION)
    figures = paper()
    rows = [
        [name, *map(decimals, figures.mme[name]), *cells(scores, f"MME/{name}")]
        for name in subtasks
    ]
    own = [scores[f"MME/{name}"] for name in subtasks if f"MME/{name}" in scores]
    total = sum_cells(own) if len(own) == len(subtasks) else [NONE] * len(COLUMNS)
    rows.append([f"sum ({100 * 2 * len(subtasks)})", *map(decimals, figures.mme[group]), *total])
    columns = f"Columns {figures.mme_models[0]} to {figures.mme_models[-1]}: {MME_SOURCE}."
    return Table(
        title=f"Table {number}: MME, {group}",
        header=["Subtask", *figures.mme_models, *own_header(run)],
        rows=rows,
        notes=[*notes(run, columns), "Each item is a picture with two questions."],
        texts=1,
    )


def tables(run: Run, scores: Iterable[TaskScore]) -> list[Table]:
    """Return the paper's four tables, a table of the tasks that are not in the paper, and a table
    of GPT4Tools' scores. If no task of the paper was scored, return only the last two tables.
    """
    by_name = {score.task.name: score for score in scores}
    others = [score for score in by_name.values() if score.task.kind == "Other"]
    other_tables = [other_table(run, others)] if others else []
    if with_tools := [score for score in others if score.tools]:
        other_tables.append(tool_table(run, with_tools))
    if by_name and len(others) == len(by_name):
        return other_tables
    paper_tables = [
        *(paper_table(number, run, by_name) for number in (1, 2)),
        *(mme_table(number, run, by_name) for number in (3, 4)),
    ]
    return [*paper_tables, *other_tables]


def other_table(run: Run, scores: Sequence[TaskScore]) -> Table:
    """Make the table of the tasks that .jsonl files define. The ImageBind-LLM paper has no such
    tasks.
    """
    rows = [
        [score.task.name, score.task.metric, score.task.strict, *score_cells(score)]
        for score in scores
    ]
    return Table(
        title="Other tasks",
        header=["Task", "Metric", "Strict metric", *own_header(run)],
        rows=rows,
        notes=notes(run, "These tasks are not in the paper."),
        texts=3,
    )


def tool_table(run: Run, scores: Sequence[TaskScore]) -> Table:
    """Make the table of GPT4Tools' scores and the stricter score, for tasks with the metric
    tool_success.
    """
    rows = []
    for score in scores:
        values = [score.tools.get(metric) for metric in TOOL_METRICS]
        figures = [decimals(value.value) if value else NONE for value in values]
        rows.append([score.task.name, *figures, str(score.ehub.items)])
    return Table(
        title="Tools",
        header=["Task", *TOOL_COLUMNS, "items"],
        rows=rows,
        notes=[
            f"{run.model}: {run.source}; decoding {run.decoding}.",
            "SR: thought, action and arguments are right (arguments: at least half of the score). "
            "strict: equal names and arguments. false calls: share of the items whose truth has no "
            "call.",
        ],
        texts=1,
    )


def own_header(run: Run) -> list[str]:
    return [f"{run.model} {column}".strip() for column in COLUMNS[:2]] + COLUMNS[2:]


def notes(run: Run, columns: str) -> list[str]:
    return [
        columns,
        f"Column {run.model}: {run.source}; decoding {run.decoding}.",
        "Intervals are 95% bootstrap intervals over the items.",
        'Always yes: the score if every answer is "Yes". Text only: the score of the same '
        "questions without their media.",
    ]


def cells(scores: Mapping[str, TaskScore], name: str) -> list[str]:
    return score_cells(scores[name]) if name in scores else [NONE] * len(COLUMNS)


def score_cells(score: TaskScore) -> list[str]:
    return estimate_cells(score.ehub, score.strict, score.always_yes, score.text_only)


def sum_cells(scores: Sequence[TaskScore]) -> list[str]:
    strict = [score.strict for score in scores if score.strict is not None]
    text_only = [score.text_only for score in scores if score.text_only is not None]
    return estimate_cells(
        Estimate.total([score.ehub for score in scores]),
        Estimate.total(strict) if len(strict) == len(scores) else None,
        Estimate.total([score.always_yes for score in scores]),
        Estimate.total(text_only) if len(text_only) == len(scores) else None,
    )


def estimate_cells(
    ehub: Estimate, strict: Estimate | None, always_yes: Estimate, text_only: Estimate | None
) -> list[str]:
    return [
        decimals(ehub.value),
        interval(ehub),
        decimals(strict.value) if strict else NONE,
        interval(strict) if strict else NONE,
        decimals(always_yes.value),
        decimals(text_only.value) if text_only else NONE,
        str(ehub.items),
    ]


def interval(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{decimals(low)}-{decimals(high)}"


def decimals(value: float) -> str:
    return f"{value:.2f}"
