"""Write rows about tools, dialogues, texts in the Input slot, and Chinese into the folder of
`build_texts`.

    python -m model_ext.demo.dialogue.build --data build/demo/data --base build/demo/base
        --encoders build/demo/pictures/encoders

Writes tools.json, dialogues.json, facts.json, languages.json and words.json for training, and
dialogue-evaluation.jsonl for `bindserve eval`. Prints the number of tokens of each file.
"""

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_ext.demo.build_evaluation import ANSWER_TOKENS, paths, truths
from model_ext.demo.dialogue.facts import fact_rows, held_out_facts
from model_ext.demo.dialogue.languages import ANIMALS, CHINESE, WHAT, language_rows, word_rows
from model_ext.demo.dialogue.talks import aspect_rows, dialogue_row, switch_rows
from model_ext.demo.dialogue.tool_rows import plain_form, questions, to_lines, training_rows
from model_ext.demo.dialogue.word_embeddings import write_words
from model_ext.demo.evaluate import embed_cache
from model_ext.demo.splits import CONCEPTS
from model_ext.demo.texts import a
from model_ext.imagebind.model import ImageBind
from model_ext.train.data.conversations import dialogues
from model_ext.train.data.tokens import count_tokens
from model_ext.train.encoders.samples import read_list
from model_ext.train.tokenizer import TextTokenizer, open_tokenizer

Row = dict[str, Any]
CALLS, FACTS, SECOND_PICTURES, ASPECTS = 12_000, 3600, 1500, 1200  # numbers of training rows
ANSWERED = 4
TESTS = {"seen": 300, "unseen": 300, "none": 200}
SWITCHES = 200  # Number of evaluation dialogues with a second picture.
FIRST = "What is this?"
NOW = "What is this now?"
ANIMAL = "Is it an animal?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base's tokenizer")
    parser.add_argument("--encoders", type=Path, required=True)
    options = parser.parse_args()
    encoders = ImageBind.from_folder(options.encoders)
    words = write_words(encoders, embed_cache(encoders, options.data), options.data)
    files = training(pictures(options.data), words)
    for name, rows in files.items():
        text = json.dumps(rows, ensure_ascii=False, indent=0)
        (options.data / f"{name}.json").write_text(text)
    (options.data / "dialogue-evaluation.jsonl").write_text(to_lines(evaluation()))
    report(files, open_tokenizer(options.base / "tokenizer.json"))


def pictures(data: Path) -> list[tuple[str, str]]:
    """Return the path and the concept of the training pictures, which `build_texts` has put on
    white.
    """
    return [
        (str(Path("white", *Path(row["path"]).parts[1:])), row["key"])
        for row in read_list(data / "train.jsonl")
        if row["modality"] == "image" and row["key"] in CONCEPTS
    ]


def training(
    drawings: Sequence[tuple[str, str]], words: Mapping[str, Sequence[str]], calls: int = CALLS
) -> dict[str, list[Row]]:
    """Return the rows of each file, from the training pictures' paths and concepts, and from the
    embeddings' files of each concept's name.
    """
    rng = random.Random("dialogues")
    talks = [dialogue_row(*each, rng) for each in drawings]
    return {
        "tools": list(tool_replies(calls)),
        "dialogues": [
            *talks,
            *switch_rows(drawings, SECOND_PICTURES),
            *aspect_rows(drawings, ASPECTS),
        ],
        "facts": list(fact_rows(FACTS, [path for path, _ in drawings])),
        "languages": list(language_rows()),
        "words": list(word_rows(words)),
    }


def tool_replies(count: int) -> Iterator[Row]:
    """Yield the calls, and of every fourth row also the answer after the tool's result."""
    for number, row in enumerate(training_rows(count)):
        first, *later = plain_form(row)
        yield first
        if number % ANSWERED == 0:
            yield from later


def evaluation() -> Iterator[Row]:
    yield from questions(**TESTS)
    yield from switches(SWITCHES)
    yield from pronouns()
    yield from chinese()
    yield from facts()


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


def facts() -> Iterator[Row]:
    """Ask about a text in the Input slot, and for comparison without the text."""
    for fact in held_out_facts():
        row = named("Fact with text", fact.question, [fact.value])
        yield {**row, "input": fact.context}
        yield named("Fact without text", fact.question, [fact.value])


def picture(concept: str) -> str:
    return paths("image", concept)[0]


def named(task: str, question: str, answers: list[str], **media: str) -> Row:
    row: Row = {"task": task, "question": question, "answers": answers, **media}
    return {**row, "metric": "vqa_containment", "max_tokens": ANSWER_TOKENS}


def report(rows: Mapping[str, Sequence[Row]], tokenizer: TextTokenizer) -> None:
    """Print the number of tokens in one epoch of each file."""
    total = 0
    for name, each in rows.items():
        tokens = sum(
            count_tokens(dialogue.turns, tokenizer, dialogue.system)
            for row in each
            for dialogue in dialogues(row, "all")
        )
        total += tokens
        print(f"{name}: {len(each)} rows, {tokens:,} tokens")
    print(f"together: {total:,} tokens")


if __name__ == "__main__":
    main()
