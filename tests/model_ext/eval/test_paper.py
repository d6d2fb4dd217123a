"""The figures of the paper are consistent with each other and with the sizes of the data sets."""

import pytest

from model_ext.eval.paper import paper
from model_ext.eval.tasks.table import COGNITION, DATA_SETS, PERCEPTION, TASKS


def test_the_rows_are_the_data_sets_in_order() -> None:
    rows = paper().rows
    assert [row.data_set for row in rows] == [task.name for task in DATA_SETS]
    assert [row.kind for row in rows] == [task.kind for task in DATA_SETS]
    assert {len(row.values) for row in rows} == {len(paper().models)} == {len(paper().tokens)}


def is_whole_count(percentage: float, size: int) -> bool:
    """Whether k / `size` rounds to this percentage (two decimals) for a whole number k."""
    count = percentage * size / 100
    return any(
        abs(100 * n / size - percentage) <= 0.005 + 1e-9 for n in (int(count), int(count) + 1)
    )


@pytest.mark.parametrize(
    "row",
    [row for row in paper().rows if TASKS[row.data_set].exact_size],
    ids=lambda row: row.data_set,
)
def test_percentages_are_whole_counts_of_the_size(row: tuple[object, ...]) -> None:
    """The percentages of all seven models are possible only for a data set of the size in the table
    of tasks.
    """
    _, _, name, _, values = row
    size = TASKS[str(name)].size
    assert size is not None
    assert isinstance(values, list)
    assert [value for value in values if not is_whole_count(value, size)] == []


def test_six_of_seven_percentages_fit_ic15_and_svtp() -> None:
    for row in paper().rows:
        if row.data_set in ("IC15", "SVTP"):
            size = TASKS[row.data_set].size
            assert size is not None
            assert sum(is_whole_count(value, size) for value in row.values) == 6


def test_five_of_seven_percentages_fit_vizwiz() -> None:
    (row,) = [row for row in paper().rows if row.data_set == "VizWiz"]
    fits = [is_whole_count(value, 1131) for value in row.values]
    assert fits == [False, False, True, True, True, True, True]


def test_a_size_that_is_wrong_is_noticed() -> None:
    (row,) = [row for row in paper().rows if row.data_set == "SVT"]
    assert not all(is_whole_count(value, 645) for value in row.values)


@pytest.mark.parametrize(
    ("group", "subtasks"), [("perception", PERCEPTION), ("cognition", COGNITION)]
)
def test_sums_of_mme(group: str, subtasks: dict[str, int]) -> None:
    """The published sums equal the sums over the subtasks, up to the rounding of each figure."""
    for index, total in enumerate(paper().mme[group]):
        terms = [paper().mme[name][index] for name in subtasks]
        assert sum(terms) == pytest.approx(total, abs=0.005 * (len(terms) + 1))


@pytest.mark.parametrize(("name", "size"), [*PERCEPTION.items(), *COGNITION.items()])
def test_scores_of_mme_are_whole_counts(name: str, size: int) -> None:
    """MME's score counts answers and pictures, so score x questions / 100 is a whole number."""
    assert all(is_whole_count(value, size) for value in paper().mme[name])


def test_statements_of_the_paper_about_mme() -> None:
    figures = paper()
    own, panda = (figures.mme_models.index(name) for name in ("ImageBind-LLM", "PandaGPT"))
    perception = figures.mme["perception"]
    assert perception[own] - perception[panda] == pytest.approx(133.18)
    assert sorted(perception, reverse=True).index(perception[own]) == 2
    for name, lead in (("existence", 8.33), ("artwork", 1.0)):
        others = [v for i, v in enumerate(figures.mme[name]) if i != own]
        assert figures.mme[name][own] - max(others) == pytest.approx(lead)
