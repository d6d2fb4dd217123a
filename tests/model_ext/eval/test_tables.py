import pytest

from model_ext.eval.item import Item
from model_ext.eval.render import Table, latex, markdown
from model_ext.eval.score import TaskScore, score_task
from model_ext.eval.tables import COLUMNS, Run, mme_table, paper_table, tables
from model_ext.eval.tasks.table import MME, TASKS
from model_ext.eval.tasks.task import Task

RUN = Run(model="tiny_model", decoding="greedy", source="run of a test", tokens=1)


def score(name: str, truths: list[str], answers: list[str]) -> TaskScore:
    items = [
        Item(id=str(n), task=name, question="Q?", answers=[truth], pair="a")
        for n, truth in enumerate(truths)
    ]
    by_id = {str(n): answer for n, answer in enumerate(answers)}
    return score_task(TASKS[name], items, by_id, text_only=by_id)


def row_of(table: Table, name: str) -> list[str]:
    (row,) = [row for row in table.rows if name in row[:2]]
    return row


def test_the_papers_columns_stand_beside_the_run() -> None:
    scores = {"SVT": score("SVT", ["EXIT", "yes"], ["it says EXIT", "no"])}
    table = paper_table(1, RUN, scores)
    assert table.header[3:10] == [
        "BLIP2", "InstructBLIP", "LA", "LLaVA", "PandaGPT", "ImageBind-LLM", "ImageBind-LLM-D",
    ]  # fmt: skip
    assert table.header[10:] == ["tiny_model", "tiny_model 95%", *COLUMNS[2:]]
    assert table.rows[0][1:11] == [
        "#Token", "", "32", "32", "10", "257", "1", "1", "1", "1",
    ]  # fmt: skip
    svt = row_of(table, "SVT")
    assert svt[8:10] == ["8.35", "7.11"]
    assert svt[10:] == ["50.00", "0.00-100.00", "0.00", "0.00-0.00", "50.00", "50.00", "2"]
    assert row_of(table, "IC13")[10:] == ["-"] * len(COLUMNS)


def test_tables_1_and_2_have_the_27_data_sets() -> None:
    first, second, *_ = tables(RUN, [])
    assert (len(first.rows), len(second.rows)) == (1 + 16, 1 + 11)


def test_mme_sums_need_every_subtask() -> None:
    scores = {task.name: score(task.name, ["Yes", "No"], ["Yes", "Yes"]) for task in MME}
    assert mme_table(3, RUN, scores).rows[-1][:1] == ["sum (2000)"]
    perception = mme_table(3, RUN, scores).rows[-1][7:]
    assert perception == [
        "500.00", "500.00-500.00", "500.00", "500.00-500.00", "500.00", "500.00", "10",
    ]  # fmt: skip
    assert mme_table(4, RUN, scores).rows[-1][7] == "200.00"
    del scores["MME/color"]
    assert mme_table(3, RUN, scores).rows[-1][6:8] == ["775.77", "-"]


def test_every_column_names_its_source() -> None:
    for table in tables(RUN, []):
        text = " ".join(table.notes)
        assert "run of a test; decoding greedy" in text
        assert ("MME leaderboard of 2023-07-04" if "MME" in table.title else "2309.03905") in text


@pytest.mark.parametrize("number", [0, 5])
def test_rejects_other_tables(number: int) -> None:
    with pytest.raises(ValueError, match="choose"):
        paper_table(number, RUN, {})
    with pytest.raises(ValueError, match="choose"):
        mme_table(number, RUN, {})


HOSTILE = Table(
    title="T_1", header=["a", "b"], rows=[["x|y\nz", r"\input{x} & 5% $"]], notes=["n"], texts=1
)


def test_markdown_escapes_cells() -> None:
    assert markdown(HOSTILE).splitlines() == [
        "### T_1",
        "",
        "| a | b |",
        "|---|---:|",
        r"| x\|y z | \input{x} & 5% $ |",
        "",
        "- n",
    ]


def test_latex_escapes_cells() -> None:
    text = latex(HOSTILE)
    assert r"x|y z & \textbackslash{}input\{x\} \& 5\% \$ \\" in text
    assert r"\caption{T\_1. n}" in text
    assert r"\begin{tabular}{lr}" in text


def test_every_table_renders() -> None:
    for table in tables(RUN, []):
        assert markdown(table).count("\n| ") == len(table.rows) + 1
        assert latex(table).count(r" \\") == len(table.rows) + 1


def test_rejects_rows_of_another_length() -> None:
    with pytest.raises(ValueError, match="1 cells, 2 columns"):
        Table(title="t", header=["a", "b"], rows=[["x"]], notes=[], texts=1)


def test_scores_of_tools_have_a_table() -> None:
    call = "Thought: Do I need to use a tool? Yes\nAction: A\nAction Input: a.png"
    other = call.replace("a.png", "b.png")
    answer = "Thought: Do I need to use a tool? No\nAI: x"
    task = Task(name="T", kind="Other", metric="tool_success", strict="tool_strict", files=())
    truths = [call, call, answer, answer]
    items = [
        Item(id=str(n), task="T", question="Q?", answers=[truth]) for n, truth in enumerate(truths)
    ]
    replies = dict(zip("0123", [call, other, answer, call], strict=True))
    other_table, tool_table = tables(RUN, [score_task(task, items, replies)])
    assert row_of(other_table, "T")[3] == "75.00"
    figures = dict(zip(tool_table.header, row_of(tool_table, "T"), strict=True))
    assert figures["SR"] == figures["SR_t"] == "75.00"
    assert figures["strict"] == "50.00"
    assert figures["false calls"] == "50.00"
    assert figures["items"] == "4"
    (_, without) = tables(RUN, [score_task(task, items[:2], {"0": call, "1": call})])
    assert row_of(without, "T")[-2:] == ["-", "2"]
