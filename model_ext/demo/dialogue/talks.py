"""Training rows with several turns: a pronoun that refers to a picture's thing, and a second
picture that follows the first.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from model_ext.demo.dialogue.languages import ANIMALS
from model_ext.demo.texts import LINES, a

Row = dict[str, Any]
WHAT = ("What is this?", "What do you see?", "What is shown?", "What is in the picture?")
NOW = (
    "What is this now?",
    "And this?",
    "What is this one?",
    "And what is this now?",
    "What is it?",
)
MORE = ("Tell me more.", "Tell me about it.", "Describe it.", "What is it like?")
FOOD = {"banana", "carrot", "cherries", "grapes", "mushroom", "pineapple", "pizza"}
VEHICLES = {
    *("airplane", "bicycle", "bus", "helicopter", "motorcycle", "rocket", "sailboat", "tractor"),
}
MUSIC = {"bell", "guitar", "trumpet", "violin"}
FLYING = {"airplane", "balloon", "butterfly", "helicopter", "owl", "rocket", "duck"}
# Questions with a pronoun, the things for which the answer is yes, and the end of the answer.
ASPECTS = (
    ("Is it an animal?", ANIMALS, "it is"),
    ("Is it a living animal?", ANIMALS, "it is"),
    ("Can you eat it?", FOOD, "you can"),
    ("Is it a vehicle?", VEHICLES, "it is"),
    ("Is it an instrument?", MUSIC, "it is"),
    ("Does it fly?", FLYING, "it does"),
)
MAX_ROUNDS = 4  # Number of rounds before the last one.
Round = tuple[str, str]


def dialogue_row(path: str, concept: str, rng: random.Random) -> Row:
    """Make a dialogue of two to five rounds about one picture. The first names its thing, and the
    others refer to it by a pronoun. All answers are learned.
    """
    rounds = [(rng.choice(WHAT), f"This is {a(concept)}.")]
    for question, things, end in (ASPECTS[0], *rng.sample(ASPECTS[1:], rng.randint(0, 2))):
        rounds.append((question, yes_or_no(concept in things, end)))
    if rng.random() < 0.5:
        rounds.append((rng.choice(MORE), LINES[concept]))
    head, *rest = rounds
    rng.shuffle(rest)
    conversations = []
    for question, answer in (head, *rest):
        conversations += [
            {"from": "human", "value": question},
            {"from": "gpt", "value": answer},
        ]
    return {"image": path, "conversations": conversations}


def yes_or_no(is_right: bool, end: str) -> str:
    if is_right:
        return f"Yes, {end}."
    return "No, you cannot." if end == "you can" else f"No, {end} not."


def switch_rows(pictures: Sequence[tuple[str, str]], count: int, seed: int = 0) -> Iterator[Row]:
    """Yield dialogues whose last turn has a new picture. Only the last answer is learned, because
    the embedding is that of the last picture.
    """
    rng = random.Random(f"switches {seed}")
    concepts = sorted({concept for _, concept in pictures})
    for number in range(count):
        path, concept = pictures[number % len(pictures)]
        rounds: list[Round] = []
        for _ in range(rng.randint(1, MAX_ROUNDS)):
            earlier = rng.choice(concepts)
            rounds.append((rng.choice((*WHAT, *NOW)), f"This is {a(earlier)}."))
        if rng.random() < 0.25:  # The last turn is about the earlier turn's picture.
            question, things, end = rng.choice(ASPECTS)
            rounds[-1] = (rounds[-1][0], f"This is {a(concept)}.")
            answer = yes_or_no(concept in things, end)
        elif rng.random() < 0.25:
            question, answer = rng.choice(MORE), LINES[concept]
            rounds[-1] = (rounds[-1][0], f"This is {a(concept)}.")
        else:
            question, answer = rng.choice((*NOW, *NOW, WHAT[0])), f"This is {a(concept)}."
        yield last_round(rounds, question, answer, path)


def last_round(rounds: Sequence[Round], question: str, answer: str, path: str | None) -> Row:
    """Make a row that learns the last answer of a dialogue only: the earlier rounds are part of its
    instruction, with the marks of the prompt.
    """
    before = "".join(
        f"{text}\n\n### Response:{reply}\n\n### Instruction:\n" for text, reply in rounds
    )
    row = {
        "conversations": [
            {"from": "human", "value": before + question},
            {"from": "gpt", "value": answer},
        ]
    }
    return row | ({} if path is None else {"image": path})


def aspect_rows(pictures: Sequence[tuple[str, str]], count: int, seed: int = 0) -> Iterator[Row]:
    """Yield follow-up questions with a pronoun, half of whose answers are yes."""
    rng = random.Random(f"aspects {seed}")
    for number in range(count):
        question, things, end = ASPECTS[0] if number % 2 else rng.choice(ASPECTS)
        is_right = number % 4 < 2
        listed = [each for each in pictures if (each[1] in things) == is_right]
        path, concept = rng.choice(listed)
        rounds = [(rng.choice(WHAT), f"This is {a(concept)}.")]
        yield last_round(rounds, question, yes_or_no(is_right, end), path)
