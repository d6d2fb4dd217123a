"""Write the 200 questions that tests/serving/demo/test_answers.py asks, and their pictures.

    python -m tests.serving.record_evaluation --data build/demo/data
    bindserve eval URL --data tests/fixtures/evaluation/questions.jsonl --tasks all
        --decoding greedy --out RUN && cp RUN/answers.jsonl tests/fixtures/evaluation/

The second command records the greedy answers of a running `bindserve demo`.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from model_ext.demo.build_evaluation import NAME, Row, rows
from model_ext.demo.splits import CONCEPTS

FOLDER = Path(__file__).parents[1] / "fixtures" / "evaluation"
QUESTIONS = FOLDER / "questions.jsonl"
SIDE = 96  # width and height of the pictures in pixels
MAX_TOKENS = 8
TEXTS = {
    "What is the capital of France?": ["Paris"],
    "What is the capital of Italy?": ["Rome"],
    "What is 2 + 3?": ["5"],
    "How many days does a week have?": ["seven"],
    "Who wrote Romeo and Juliet?": ["Shakespeare"],
    "What do bees make?": ["honey"],
    "What is the opposite of hot?": ["cold"],
    "Name three colors.": ["red", "blue", "green", "yellow"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help=f"the folder of {NAME}")
    data = parser.parse_args().data
    FOLDER.mkdir(exist_ok=True)
    for concept in CONCEPTS:
        picture = Image.open(data / f"image/noto/{concept}.png").convert("RGB")
        picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(FOLDER / f"{concept}.png")
    with QUESTIONS.open("w") as lines:
        for number, row in enumerate(questions()):
            row |= {"id": str(number), "max_tokens": MAX_TOKENS}
            lines.write(json.dumps(row) + "\n")


def questions() -> Iterator[Row]:
    for row in rows():
        if row["task"] in ("Demo picture", "Demo existence"):
            yield {**row, "image": Path(row["image"]).name}
    for text, answers in TEXTS.items():
        yield {
            "task": "Demo text",
            "question": text,
            "answers": answers,
            "metric": "vqa_containment",
        }


if __name__ == "__main__":
    main()
