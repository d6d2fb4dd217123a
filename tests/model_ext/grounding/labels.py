"""Read answers with nouns that were labelled by hand (answers.txt)."""

import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("answers.txt")
MARK = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class Labelled:
    tags: frozenset[str]
    text: str
    spans: frozenset[tuple[int, int]]  # start and end of each labelled noun, in Unicode code points


def read_answers() -> list[Labelled]:
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    return [_read(line) for line in lines]


def _read(line: str) -> Labelled:
    tags, _, marked = line.partition(" | ")
    marked = marked.replace("\\n", "\n")
    spans, removed = [], 0
    for match in MARK.finditer(marked):
        start = match.start() - removed
        spans.append((start, start + len(match[1])))
        removed += 2
    return Labelled(frozenset(tags.split()), MARK.sub(r"\1", marked), frozenset(spans))
