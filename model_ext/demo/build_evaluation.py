"""Build the demonstration model's evaluation set: all kinds of tasks, on held-out media.

    python -m model_ext.demo.build_evaluation --data build/demo/data

Needs the test split of `build_data`. Writes pictures of words and receipts, and evaluation.jsonl,
which `bindserve eval URL --data build/demo/data/evaluation.jsonl` reads. The list is committed.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from model_ext.demo.build_data import LISTS
from model_ext.demo.receipts import Receipt, receipts, write_receipt, write_word
from model_ext.demo.splits import CONCEPTS, STYLES, VOICES
from model_ext.demo.texts import LINES, a
from model_ext.eval.tasks.prompts import CHOICE, OCR, SROIE

NAME = "evaluation.jsonl"
SEED = 0
STYLE = STYLES["test"][0]
VOICES_EACH = 2  # Number of voices per word.
OPTIONS = 4  # Number of options of a multiple-choice question.
CANDIDATES = 10  # Number of candidates of a dialogue's question.
DIALOGUES = 16
MIXES = ((0.5, 0.5), (0.4, 0.6), (0.2, 0.8))  # weights of picture and sound, as in figure 7
WHAT, DESCRIBE, BOTH = "What is this?", "Describe it.", "What do you see and hear?"
PRESENT = "Is there {} in this image? Please answer yes or no."
CAPTION_TOKENS, ANSWER_TOKENS = 16, 24

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    for concept in CONCEPTS:
        write_word(concept, data / word_path(concept))
    for receipt in receipts(SEED):
        write_receipt(receipt, data / receipt_path(receipt))
    with (data / NAME).open("w") as lines:
        for number, row in enumerate(rows()):
            lines.write(json.dumps({"id": str(number), **row}) + "\n")
    shutil.copy(data / NAME, LISTS / NAME)


def rows() -> Iterator[Row]:
    """Yield the questions of all tasks."""
    yield from named()
    yield from captions()
    yield from choices()
    yield from dialogues()
    yield from texts()
    yield from presence()
    yield from mixes()


def named() -> Iterator[Row]:
    """Ask "What is this?" about pictures, spoken words, point clouds, clips, and pictures with
    their spoken words.
    """
    for modality, name in NAMES.items():
        for concept in CONCEPTS:
            for path in paths(modality, concept):
                yield question(f"Demo {name}", WHAT, truths(concept), **{modality: path})
    for concept in CONCEPTS:
        media = {"image": paths("image", concept)[0], "audio": paths("audio", concept)[0]}
        yield question("Demo picture and word", WHAT, truths(concept), **media)


def captions() -> Iterator[Row]:
    """Ask for descriptions (the paper's figure 5). CIDEr compares answers with two captions."""
    for modality, name in NAMES.items():
        for concept in CONCEPTS:
            yield {
                "task": f"Demo caption of {name}",
                "question": DESCRIBE,
                "answers": [LINES[concept], f"This is {a(concept)}."],
                modality: paths(modality, concept)[0],
                "metric": "cider_raw",
                "max_tokens": CAPTION_TOKENS,
            }


def choices() -> Iterator[Row]:
    """Ask multiple-choice questions in ScienceQA's form: the options follow the question."""
    generator = np.random.default_rng([SEED, 1])
    for concept in CONCEPTS:
        options = with_others(concept, OPTIONS, generator)
        prompt = CHOICE.format(question="What is shown in the picture?", choices=" ".join(options))
        media = {"image": paths("image", concept)[0], "choices": options}
        yield question("Demo choice", prompt, [concept], **media)


def dialogues() -> Iterator[Row]:
    """Ask questions in Visual Dialog's form: one of several candidate answers is right."""
    generator = np.random.default_rng([SEED, 2])
    for concept in CONCEPTS[:: len(CONCEPTS) // DIALOGUES]:
        names = with_others(concept, CANDIDATES, generator)
        yield {
            "task": "Demo dialogue",
            "question": WHAT,
            "answers": [],
            "image": paths("image", concept)[0],
            "candidates": [f"This is {a(name)}." for name in names],
            "truth_index": names.index(concept),
            "metric": "visdial_rank",
            "max_tokens": ANSWER_TOKENS,
        }


def texts() -> Iterator[Row]:
    """Ask about pictures of written words and of receipts. The model is expected to fail, because
    its encoders did not learn to read.
    """
    for concept in CONCEPTS:
        row = question("Demo OCR", OCR, [concept], image=word_path(concept))
        yield {**row, "metric": "ocr_containment"}
    for receipt in receipts(SEED):
        for field, prompt in SROIE.items():
            row = question("Demo KIE", prompt, [getattr(receipt, field)])
            yield {**row, "image": receipt_path(receipt), "metric": "kie_words"}


def presence() -> Iterator[Row]:
    """Ask two questions about each picture, as in MME. The right answers are Yes and No."""
    generator = np.random.default_rng([SEED, 3])
    for concept in CONCEPTS:
        other = next(name for name in with_others(concept, 2, generator) if name != concept)
        for name, truth in ((concept, "Yes"), (other, "No")):
            media = {"image": paths("image", concept)[0], "pair": concept}
            row = question("Demo existence", PRESENT.format(a(name)), [truth], **media)
            yield {**row, "metric": "mme"}


def mixes() -> Iterator[Row]:
    """Ask about a picture that is mixed with a spoken word for another thing. For the strict score,
    an answer must name both.
    """
    for picture, sound in MIXES:
        for index, concept in enumerate(CONCEPTS):
            other = CONCEPTS[(index + len(CONCEPTS) // 2) % len(CONCEPTS)]
            media = {"image": paths("image", concept)[0], "audio": paths("audio", other)[0]}
            task = f"Demo mix {round(100 * picture)}-{round(100 * sound)}"
            row = question(task, BOTH, [concept, other], **media)
            yield {**row, "strict": "vqa_every", "weights": {"image": picture, "audio": sound}}


NAMES = {"image": "picture", "audio": "word", "point": "cloud", "video": "clip"}
SUFFIXES = {"image": "png", "point": "npy", "video": "mp4"}


def question(task: str, text: str, answers: list[str], **fields: Any) -> Row:
    row: Row = {"task": task, "question": text, "answers": answers, **fields}
    return {**row, "metric": "vqa_containment", "max_tokens": ANSWER_TOKENS}


def truths(concept: str) -> list[str]:
    """Return the accepted answers: the name, and the sentence with the name that the finetune phase
    has taught.
    """
    return [concept, f"This is {a(concept)}."]


def paths(modality: str, concept: str) -> list[str]:
    """Return the concept's files in the test split. Successive words use different voices."""
    if modality != "audio":
        return [f"{modality}/{STYLE}/{concept}.{SUFFIXES[modality]}"]
    voices = VOICES["test"]
    first = CONCEPTS.index(concept) * VOICES_EACH
    return [
        f"audio/{voices[(first + number) % len(voices)]}/{concept}-0.wav"
        for number in range(VOICES_EACH)
    ]


def with_others(concept: str, count: int, generator: np.random.Generator) -> list[str]:
    """Return a list of `count` different concepts in random order. One of them is `concept`."""
    others = [name for name in CONCEPTS if name != concept]
    names = [concept, *generator.choice(others, count - 1, replace=False).tolist()]
    return [names[index] for index in generator.permutation(count)]


def word_path(concept: str) -> str:
    return f"ocr/{concept}.png"


def receipt_path(receipt: Receipt) -> str:
    return f"receipt/{receipt.number}.png"


if __name__ == "__main__":
    main()
