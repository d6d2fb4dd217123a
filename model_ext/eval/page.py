"""An HTML page with the wrong answers of a run, and the media of the questions.

The page has no script and no external resource: media are data: URIs, all texts are escaped, and
the page's policy forbids everything else.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from model_ext.eval.item import Item
from model_ext.eval.metrics import question_scores
from model_ext.eval.tasks.task import Task

MAX_WRONG = 50  # Maximum number of questions that the page shows per task.
MAX_FILE_BYTES = 4 << 20  # Maximum size of a file that the page shows.
MAX_PAGE_BYTES = 64 << 20  # Maximum size of all files of the page.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 16px/1.4 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
article { display: flex; gap: 1em; border-top: 1px solid #999; padding: 1em 0; }
figure { flex: 0 0 14em; margin: 0; } img, video, audio { max-width: 14em; max-height: 14em; }
dl { margin: 0; } dt { font-size: 85%; color: #555; } dd { margin: 0 0 .5em; }
dd { white-space: pre-wrap; overflow-wrap: anywhere; }
"""
SIGNATURES = {  # first bytes of a file -> media type; of other files, the page shows the name
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"RIFF": "",  # bytes 8 to 12 distinguish WebP from WAV
    b"\x1aE\xdf\xa3": "video/webm",
}
RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
ELEMENTS = {
    "image": '<img alt="" src="{}">',
    "audio": '<audio controls src="{}"></audio>',
    "video": '<video controls src="{}"></video>',
}


def page(
    title: str,
    tasks: Sequence[Task],
    questions: Mapping[str, Sequence[Item]],
    answers: Mapping[str, Mapping[str, str]],
) -> str:
    """Return a run's page: at most MAX_WRONG questions of each task, lowest scores first."""
    media = MediaBudget()
    sections = [section(task, questions[task.name], answers[task.name], media) for task in tasks]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>Wrong answers: {escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Wrong answers: {escape(title)}</h1>\n{''.join(sections)}</body>\n</html>\n"
    )


def section(
    task: Task, items: Sequence[Item], answers: Mapping[str, str], media: "MediaBudget"
) -> str:
    texts = [answers[item.id] for item in items]
    scores = question_scores(task.metric, items, texts)
    wrong = [
        (score, item, text)
        for score, item, text in zip(scores, items, texts, strict=True)
        if score is not None and score < 100
    ]
    wrong.sort(key=lambda row: row[0])
    shown = "".join(article(*row, media) for row in wrong[:MAX_WRONG])
    count = f"{len(wrong)} of {len(items)} questions have a score below 100"
    limit = f"; the page shows {MAX_WRONG}" if len(wrong) > MAX_WRONG else ""
    return f"<h2>{escape(task.name)}</h2>\n<p>{escape(task.metric)}: {count}{limit}.</p>\n{shown}"


def article(score: float, item: Item, text: str, media: "MediaBudget") -> str:
    rows = {
        "question": item.question,
        "answer": text,
        "expected": " | ".join(item.answers) or "-",
        "score": f"{score:.1f}",
        "id": item.id,
    }
    cells = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
    return f"<article><figure>{''.join(media.elements(item))}</figure><dl>{cells}</dl></article>\n"


class MediaBudget:
    """Turns media into HTML elements, as long as their total size is at most MAX_PAGE_BYTES."""

    def __init__(self, max_bytes: int = MAX_PAGE_BYTES) -> None:
        self._left = max_bytes

    def elements(self, item: Item) -> Iterator[str]:
        for modality, source in item.media():
            blob = read(source)
            kind = None if blob is None else kind_of(blob)
            if blob is None or kind is None or len(blob) > self._left:
                name = modality if source.startswith("data:") else Path(source).name
                yield f"<p>{escape(modality)}: {escape(name)}</p>"
                continue
            self._left -= len(blob)
            uri = f"data:{kind};base64,{base64.b64encode(blob).decode()}"
            yield ELEMENTS[kind.partition("/")[0]].format(uri)


def read(source: str) -> bytes | None:
    """The bytes of a path or data: URI, or None if the file cannot be read or is too large."""
    try:
        if source.startswith("data:"):
            text = source.partition(",")[2]
            if len(text) > 2 * MAX_FILE_BYTES:
                return None
            blob = base64.b64decode(text)
        else:
            with Path(source).open("rb") as file:
                blob = file.read(MAX_FILE_BYTES + 1)
    except (OSError, binascii.Error):
        return None
    return blob if len(blob) <= MAX_FILE_BYTES else None


def kind_of(blob: bytes) -> str | None:
    """Return the media type for a file's first bytes, or None for other files, such as SVG and
    HTML.
    """
    if blob[4:8] == b"ftyp":
        return "video/mp4"
    for signature, kind in SIGNATURES.items():
        if blob.startswith(signature):
            return kind or RIFF.get(blob[8:12])
    return None
