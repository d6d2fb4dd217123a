"""The paper's figures, as recorded in paper.json."""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

TABLE_SOURCE = "arXiv 2309.03905, tables 1 and 2"
MME_SOURCE = "public MME leaderboard of 2023-07-04"


class PaperRow(NamedTuple):
    table: int
    kind: str
    data_set: str
    metric: str
    values: list[float]  # one value per model


class Paper(NamedTuple):
    models: list[str]
    tokens: list[int]  # for each model, the number of tokens of an attachment
    rows: list[PaperRow]
    mme_models: list[str]
    mme: dict[str, list[float]]  # subtask, "perception" or "cognition" -> one score per model


@cache
def paper() -> Paper:
    data = json.loads(files(__package__).joinpath("paper.json").read_text(encoding="utf-8"))
    return Paper(
        models=data["models"],
        tokens=data["modality_tokens"],
        rows=[PaperRow(*row) for row in data["rows"]],
        mme_models=data["mme"]["models"],
        mme={name: values for name, values in data["mme"].items() if name != "models"},
    )
