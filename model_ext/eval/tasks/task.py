"""A task: its prompt, decoding limit, scorers, expected files and size."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["OCR", "KIE", "Caption", "VQA", "KGID", "MME", "Other"]
Metric = Literal[
    "ocr_containment",
    "ocr_letters",
    "kie_words",
    "kie_entities",
    "vqa_containment",
    "vqa_every",
    "vqa_exact",
    "vqa_consensus",
    "contains_any",
    "anls",
    "visdial_rank",
    "visdial_exact",
    "cider_raw",
    "cider_ptb",
    "mme",
    "mme_strict",
    "tool_success",
    "tool_thought",
    "tool_action",
    "tool_arguments",
    "tool_overlap",
    "tool_strict",
    "tool_false_call",
    "pope",
    "pope_f1",
]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A row of the table of tasks.

    `prompt`: a format string over the fields of the data set; "{question}" is the unchanged
    question. `files`: the expected files below the data root; alternatives are separated by " | ".
    `size`: the number of questions, or None if the paper does not state it. `exact_size`: whether
    each percentage in the paper is a whole number of correct answers out of `size`. `draw`: the
    number of items from which `size` questions are drawn at random (`tasks/draw.py`).
    """

    name: str
    kind: Kind
    metric: Metric
    strict: Metric
    files: tuple[str, ...]
    prompt: str = "{question}"
    max_tokens: int = 256
    size: int | None = None
    exact_size: bool = False
    draw: int | None = None
    split: str = "test"

    @property
    def slug(self) -> str:
        """The name on the command line: lower case, letters, digits and "/" only."""
        return slug(self.name)


def slug(name: str) -> str:
    return "".join(
        character for character in name.lower() if character.isalnum() or character == "/"
    )
