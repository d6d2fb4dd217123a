"""Read the files in which LVLM-eHub stores answers, so that bindserve can score published runs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from model_ext.eval.errors import DataError
from model_ext.eval.read.files import field, read_json, text_field, texts_field

KIE_RESULT = re.compile(r"Precision: ([\d.]+) Recall: ([\d.]+) F1: ([\d.]+)")
RECORDED = {"MRR": "mrr", "cider_score": "cider"}


class EhubAnswer(NamedTuple):
    question: str
    answer: str
    truths: list[str]
    image: str
    recorded: dict[str, float]  # MRR or CIDEr that LVLM-eHub stored with the answer


def read_ehub_answers(path: Path) -> Iterator[EhubAnswer]:
    """The answers of `<answers>/<model>/<time>/<Name>.json`.

    Raises DataError: when the file is not a list of objects with the expected fields.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise DataError(path, "is not a list of answers")
    for row, record in enumerate(records, 1):
        truths = field(record, "gt_answers", path, row)
        if isinstance(truths, list):
            truths = texts_field(record, "gt_answers", path, row)
        else:
            truths = [text_field(record, "gt_answers", path, row)]
        yield EhubAnswer(
            question=text_field(record, "question", path, row),
            answer=text_field(record, "answer", path, row),
            truths=truths,
            image=str(record.get("image_path", "")),
            recorded={
                name: float(record[key])
                for key, name in RECORDED.items()
                if isinstance(record.get(key), int | float)
            },
        )


def read_ehub_results(path: Path) -> dict[str, float]:
    """The scores of `result.json`; for KIE the F1 of "Precision: x Recall: y F1: z".

    Raises DataError: when a value is neither a number nor such a text.
    """
    results = read_json(path)
    if not isinstance(results, dict):
        raise DataError(path, "is not an object of scores")
    return {name: result_value(name, value, path) for name, value in results.items()}


def result_value(name: str, value: object, path: Path) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = KIE_RESULT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise DataError(path, f"the score of {name!r} is no number", name)
    return float(match[3])
