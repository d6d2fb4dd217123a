"""The file with the answers of a run: one line with the settings (the head), then one line per
answered question.

Each line is flushed to disk when its answer arrives, so a killed run keeps all answers that it
received.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.files import MAX_FILE_BYTES, decode, parse_json
from model_ext.eval.tasks.decoding import Decoding

ANSWERS_FILE = "answers.jsonl"
Key = tuple[str, str]  # (name of the task, id of the question)
AnyModel = TypeVar("AnyModel", bound=BaseModel)


class Head(BaseModel):
    """The settings of a run. `data`: name of a task -> hash of its questions and truths.

    `imagebind`: the field `imagebind` that every request of the run had. `wrong_media`: whether the
    run was the control in which each question was sent with another question's media.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    model: str
    decoding: Decoding
    caption_prompt: str | None
    text_only: bool
    imagebind: dict[str, Any] | None = None
    wrong_media: bool = False
    data: dict[str, str]


class Result(BaseModel):
    """The answer to one question. `answer` is the server's text, unchanged.

    `candidate_logprobs`: for Visdial, the mean log-probability of each candidate answer's tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    id: str
    answer: str
    finish_reason: str | None
    candidate_logprobs: list[float] | None = None


def data_hash(items: Iterable[Item]) -> str:
    """Compute the SHA-256 of ids, questions, correct answers, earlier turns and texts of the Input
    slot, without the bytes of the media.
    """
    digest = hashlib.sha256()
    for item in items:
        earlier = [[turn.question, turn.answer] for turn in item.earlier]
        fields = [item.id, item.question, item.answers, *filter(None, (earlier, item.input))]
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()


def read_results(folder: Path) -> tuple[Head, dict[Key, Result]]:
    """Read the head and the answers of a run. Ignores an incomplete last line.

    A later line may repeat an answer with log-probabilities of candidates, and then replaces the
    earlier line.

    Raises DataError: when there is no head, or a complete line is not valid, is repeated, or
    belongs to a task that the run does not have.
    """
    path = folder / ANSWERS_FILE
    # str.splitlines would also split at U+2028
    lines = decode(complete_lines(path), path).split("\n")
    head = parse(Head, lines[0], path, 1)
    results: dict[Key, Result] = {}
    for row, line in enumerate(lines[1:-1], 2):
        result = parse(Result, line, path, row)
        key = (result.task, result.id)
        if result.task not in head.data:
            raise DataError(path, f"has an answer of {result.task!r}, a task of another run", row)
        if key in results and not completes(result, results[key]):
            raise DataError(path, f"the answer of {key} is repeated", row)
        results[key] = result
    return head, results


def row_of(folder: Path, key: Key) -> int:
    """Return the row of a stored answer in the run's file, for an error message."""
    path = folder / ANSWERS_FILE
    lines = decode(complete_lines(path), path).split("\n")
    stored = (parse(Result, line, path, row) for row, line in enumerate(lines[1:-1], 2))
    return next(row for row, result in enumerate(stored, 2) if (result.task, result.id) == key)


def completes(result: Result, stored: Result) -> bool:
    """Whether `result` differs from `stored` only by additional log-probabilities of candidates."""
    return stored == result.model_copy(update={"candidate_logprobs": None}) != result


def complete_lines(path: Path) -> bytes:
    """Read a file up to the end of its last complete line."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as e:
        raise DataError(path, f"cannot be read: {e.strerror}") from e
    if len(data) > MAX_FILE_BYTES:
        raise DataError(path, f"is larger than {MAX_FILE_BYTES} bytes")
    return data[: data.rfind(b"\n") + 1]


def parse(model: type[AnyModel], line: str, path: Path, row: int) -> AnyModel:
    try:
        return model.model_validate(parse_json(line, path, row))
    except ValidationError as e:
        error = e.errors()[0]
        raise DataError(path, f"{'.'.join(map(str, error['loc']))}: {error['msg']}", row) from e


class ResultWriter:
    """Appends answers to a run's file. Locks the file against other processes."""

    def __init__(self, file: IO[bytes], results: dict[Key, Result]) -> None:
        self._file = file
        self.results = results

    @classmethod
    def open(cls, folder: Path, head: Head) -> Self:
        """Start a run, or resume the run in `folder`. Removes an incomplete last line.

        Raises DataError: when the stored run has another head, or another process writes to it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ANSWERS_FILE
        file = path.open("ab")
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise DataError(path, "another process writes to this file") from e
            file.truncate(len(complete_lines(path)))
            if path.stat().st_size == 0:
                writer = cls(file, {})
                writer.write_line(head)
                return writer
            stored, results = read_results(folder)
            for name in Head.model_fields:
                if getattr(stored, name) != getattr(head, name):
                    raise DataError(
                        path, f"was written with another {name}; use another folder", row=1
                    )
            return cls(file, results)
        except BaseException:
            file.close()
            raise

    def write(self, result: Result) -> None:
        self.write_line(result)
        self.results[result.task, result.id] = result

    def write_line(self, record: BaseModel) -> None:
        self._file.write(record.model_dump_json().encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
