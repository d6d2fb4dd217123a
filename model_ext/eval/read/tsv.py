"""VLMEvalKit's TSV files, whose cells can hold pictures of many megabytes."""

import ast
import csv
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.read.files import inside
from model_ext.eval.tasks.prompts import CHOICE

MAX_FIELD_CHARACTERS = 1 << 26
# An `image` cell of at most this length is the index of another row.
MAX_REFERENCE = 64

# VLMEvalKit's instruction for short answers
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."

# The first characters of a picture's base64 text -> its type
SIGNATURES = {
    "/9j/": "image/jpeg",
    "iVBOR": "image/png",
    "R0lG": "image/gif",
    "UklGR": "image/webp",
    "Qk": "image/bmp",
}
REQUIRED = ("index", "question", "answer")
Row = dict[str, str]


def read_tsv(path: Path, task: str, *, short_answer: bool = False) -> Iterator[Item]:
    """The rows that have a picture. The task "MME" takes the subtask from `category`.

    Reads the file twice, and keeps only the pictures to which other rows refer. `short_answer`
    appends VLMEvalKit's instruction.

    Raises DataError: when a column is missing, an index is repeated, a picture is not base64 of
    a known format, or a cell has more than MAX_FIELD_CHARACTERS.
    """
    references = {row["image"] for _, row in rows(path) if is_reference(row.get("image", ""))}
    shared = {
        row["index"]: row["image"]
        for _, row in rows(path)
        if row["index"] in references and not is_reference(row.get("image", ""))
    }
    indexes: set[str] = set()
    for number, row in rows(path):
        if row["index"] in indexes:
            raise DataError(path, f"the index {row['index']!r} is repeated", number)
        indexes.add(row["index"])
        images = pictures(row, shared, path, number)
        if images:
            yield item(row, task, images, path, number, short_answer)


def item(
    row: Row, task: str, images: list[str], path: Path, number: int, short_answer: bool
) -> Item:
    category = row.get("category") or None
    if task == "MME":
        if not category or not row.get("image_path"):
            raise DataError(path, "MME needs the columns category and image_path", number)
        task = f"MME/{category}"
    choices = {letter: row[letter] for letter in ascii_uppercase if row.get(letter)}
    answers = texts(row["answer"])
    question = row["question"]
    if choices:
        answers = [choices.get(answer, answer) for answer in answers]
        question = CHOICE.format(question=question, choices=" ".join(choices.values()))
    result = Item(
        id=row["index"],
        task=task,
        question=question + SHORT_ANSWER * short_answer,
        answers=answers,
        image=images[0] if len(images) == 1 else images,
        choices=list(choices.values()) or None,
        category=category,
        pair=row.get("image_path") or None,
    )
    extra = {name: row[name] for name in ("hint", "l2-category", "split") if row.get(name)}
    return result.model_copy(update=extra).at(path, number)


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (row number, row). The header row has the number 1. Cells may contain line feeds."""
    # csv.field_size_limit is a setting of the whole process, so this line never lowers it.
    csv.field_size_limit(max(MAX_FIELD_CHARACTERS, csv.field_size_limit()))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t", quotechar='"')
            header = next(reader, [])
            missing = [name for name in REQUIRED if name not in header]
            if missing or not {"image", "image_path"} & set(header):
                names = ", ".join(missing or ["image or image_path"])
                raise DataError(path, f"the header has no column {names}", 1)
            for number, cells in enumerate(reader, 2):
                if len(cells) != len(header):
                    raise DataError(
                        path, f"has {len(cells)} cells; the header has {len(header)}", number
                    )
                yield number, dict(zip(header, cells, strict=True))
    except OSError as e:
        raise DataError(path, f"cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise DataError(path, "is not UTF-8 text") from e
    except csv.Error as e:
        raise DataError(path, f"is not a TSV file: {e}") from e


def is_reference(cell: str) -> bool:
    return 0 < len(cell) <= MAX_REFERENCE


def pictures(row: Row, shared: dict[str, str], path: Path, number: int) -> list[str]:
    """Return the data: URIs or paths of a row's pictures, or an empty list without a picture."""
    cell = row.get("image", "")
    if is_reference(cell):
        if cell not in shared:
            raise DataError(path, f"the image refers to {cell!r}, which has no picture", number)
        cell = shared[cell]
    if cell:
        return [data_uri(text, path, number) for text in texts(cell)]
    names = texts(row.get("image_path", "")) if row.get("image_path") else []
    return [str(inside(path.parent, name, path, number)) for name in names]


def data_uri(text: str, path: Path, number: int) -> str:
    for signature, kind in SIGNATURES.items():
        if text.startswith(signature):
            return f"data:{kind};base64,{text}"
    raise DataError(path, "the image is not base64 of JPEG, PNG, GIF, WebP or BMP", number)


def texts(cell: str) -> list[str]:
    """Return the texts of a Python list literal, or the whole cell if the cell is not a list
    literal.
    """
    if cell.startswith("[") and cell.rstrip().endswith("]"):
        try:
            values = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [cell]
        if isinstance(values, list) and values and all(isinstance(v, str | int) for v in values):
            return [str(value) for value in values]
    return [cell]
