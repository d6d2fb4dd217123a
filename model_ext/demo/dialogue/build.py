"""Write rows about tools, dialogues and Chinese into the folder of `build_texts`.

    python -m model_ext.demo.dialogue.build --data build/demo/data

Writes tools.jsonl, dialogues.json and languages.json for training, and dialogue-evaluation.jsonl
for `bindserve eval`. Prints the number of tokens in an epoch and the estimated hours of training.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model_ext.demo.build_evaluation import ANSWER_TOKENS, paths, truths
from model_ext.demo.dialogue.languages import ANIMALS, CHINESE, WHAT, language_rows
from model_ext.demo.dialogue.tool_rows import questions, to_lines, training_rows
from model_ext.demo.splits import CONCEPTS
from model_ext.demo.texts import LINES, a
from model_ext.train.data.conversations import dialogues
from model_ext.train.data.tokens import count_tokens
from model_ext.train.encoders.samples import read_list
from model_ext.train.tokenizer import TextTokenizer, open_tokenizer

Row = dict[str, Any]
CALLS = 2400  # number of training rows with a call
TESTS = {"seen": 300, "unseen": 300, "none": 200}
SWITCHES = 200  # Number of evaluation dialogues with a second picture.
TOKENS_PER_S = 430  # Measured speed of `train finetune` on two cores.
FIRST = "What is this?"
NOW = "What is this now?"
ANIMAL = "Is it an animal?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base's tokenizer")
    options = parser.parse_args()
    data = options.data
    pictures = [
        (row["path"], row["key"])
        for row in read_list(data / "train.jsonl")
        if row["modality"] == "image" and row["key"] in CONCEPTS
    ]
    tools = list(training_rows(CALLS))
    talks = [dialogue_row(*each) for each in pictures]
    words = list(language_rows())
    (data / "tools.jsonl").write_text(to_lines(iter(tools)))
    (data / "dialogues.json").write_text(json.dumps(talks, indent=0))
    (data / "languages.json").write_text(json.dumps(words, ensure_ascii=False, indent=0))
    (data / "dialogue-evaluation.jsonl").write_text(to_lines(evaluation()))
    report(
        {"tools": tools, "dialogues": talks, "languages": words},
        open_tokenizer(options.base / "tokenizer.json"),
    )


def dialogue_row(path: str, concept: str) -> Row:
    """Make a dialogue of three rounds about one picture. The second round refers to the picture's
    thing by a pronoun.
    """
    animal = "Yes, it is." if concept in ANIMALS else "No, it is not."
    rounds = (
        (FIRST, f"This is {a(concept)}."),
        (ANIMAL, animal),
        ("Tell me more.", LINES[concept]),
    )
    conversations = []
    for text, answer in rounds:
        conversations += [{"from": "human", "value": text}, {"from": "gpt", "value": answer}]
    return {"image": path, "conversations": conversations}


def evaluation() -> Iterator[Row]:
    yield from questions(**TESTS)
    yield from switches(SWITCHES)
    yield from pronouns()
    yield from chinese()


def switches(count: int) -> Iterator[Row]:
    """Make dialogues with picture A and a question, then picture B and a question. For comparison,
    each is followed by a question about B without the earlier turn.
    """
    rng = random.Random("switches")
    for _ in range(count):
        first, second = rng.sample(CONCEPTS, 2)
        earlier = {"question": FIRST, "answer": f"This is {a(first)}.", "image": picture(first)}
        row = named("Dialogue second picture", NOW, truths(second), image=picture(second))
        yield {**row, "earlier": [earlier]}
        yield named("Dialogue one turn", FIRST, truths(second), image=picture(second))


def pronouns() -> Iterator[Row]:
    """Make follow-up questions with a pronoun. Half of the right answers are yes."""
    animals = [concept for concept in CONCEPTS if concept in ANIMALS]
    others = [concept for concept in CONCEPTS if concept not in ANIMALS][: len(animals)]
    for concept in [*animals, *others]:
        answer = f"This is {a(concept)}."
        earlier = {"question": FIRST, "answer": answer, "image": picture(concept)}
        truth = "yes" if concept in ANIMALS else "no"
        yield {**named("Dialogue pronoun", ANIMAL, [truth]), "earlier": [earlier]}


def chinese() -> Iterator[Row]:
    for concept in CONCEPTS:
        media = {"image": picture(concept)}
        words = list(CHINESE[concept])
        yield {**named("Chinese names", WHAT, words, **media), "metric": "contains_any"}
        yield named("English names", FIRST, truths(concept), **media)


def picture(concept: str) -> str:
    return paths("image", concept)[0]


def named(task: str, question: str, answers: list[str], **media: str) -> Row:
    row: Row = {"task": task, "question": question, "answers": answers, **media}
    return {**row, "metric": "vqa_containment", "max_tokens": ANSWER_TOKENS}


def report(rows: dict[str, Sequence[Row]], tokenizer: TextTokenizer) -> None:
    """Print the number of tokens in one epoch of each file, and the estimated hours of training."""
    total = 0
    for name, each in rows.items():
        tokens = sum(
            count_tokens(dialogue.turns, tokenizer, dialogue.system)
            for row in each
            for dialogue in dialogues(row, "all")
        )
        total += tokens
        print(f"{name}: {len(each)} rows, {tokens:,} tokens, {hours(tokens):.1f} h an epoch")
    print(f"together: {total:,} tokens, {hours(total):.1f} h an epoch")


def hours(tokens: int) -> float:
    return tokens / TOKENS_PER_S / 3600


if __name__ == "__main__":
    main()
