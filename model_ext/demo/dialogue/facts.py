"""Rows with texts in the Input slot, as experts write them (words of a recording or of a picture),
and questions that these texts answer. Training and evaluation share no kind of fact and no value.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ext.demo.dialogue.values import Side

Row = dict[str, Any]
# A line has a statement, a question, and an answer. {name} is a drawn value, and \n a line break.
KINDS: dict[Side, list[str]] = {
    side: Path(__file__).with_name(f"facts_{side}.txt").read_text().splitlines()
    for side in ("train", "test")
}
LISTS: dict[Side, dict[str, tuple[str, ...]]] = {
    "train": {
        "city": ("Paris", "Rome", "Oslo", "Vienna", "Boston", "Madrid", "Prague", "Dublin", "Lima"),
        "place": ("church", "station", "market", "school", "hotel", "park", "theater", "bank"),
        "thing": ("book", "hat", "dog", "cup", "ball", "coat", "bag", "apple", "stone", "shoe"),
        "name": (
            *("Anna", "Paul", "Maria", "Tom Baker", "Lucy", "Peter Hill", "Eva", "Max Stone"),
            *("Nina Field", "Oscar", "Ruth Carter", "Leo", "Clara Wood", "Hugo", "Ida", "Karl"),
        ),
        "person": ("Mia", "Noah", "Olga", "Sam", "Tina", "Viktor"),
        "day": ("Monday", "Wednesday", "Friday", "Sunday"),
        "color": ("red", "blue", "green", "yellow", "black", "white"),
        "direction": ("north", "south", "east", "west"),
        "side": ("left", "right"),
        "job": ("baker", "teacher", "nurse", "driver", "painter", "farmer", "cook"),
    },
    "test": {
        "city": ("Lisbon", "Athens", "Warsaw", "Seoul", "Geneva"),
        "place": ("Maple", "Garden", "Mill", "Castle", "River"),
        "thing": ("lamp", "basket", "clock", "mirror", "pillow", "bottle", "drum", "kite"),
        "name": ("Emma Young", "Jonas", "Sophie Lake", "David", "Greta", "Felix Brook", "Laura"),
        "day": ("Tuesday", "Thursday", "Saturday"),
    },
}
CHATTER = (
    *("I hope you are well.", "See you soon.", "Thank you very much.", "It is cold today."),
    *("Please do not be late.", "Call me if you have questions.", "Have a nice day!"),
)
TESTS = 100
KIND = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Fact:
    context: str
    question: str
    answer: str
    value: str  # The part of the answer that must be right: the last value in it.


def fact_rows(count: int, pictures: Sequence[str], seed: int = 0) -> Iterator[Row]:
    """Yield training rows. Two thirds have any picture, as an expert's text belongs to a file."""
    rng = random.Random(f"facts {seed}")
    kinds = KINDS["train"]
    for number in range(count):
        fact = draw(kinds[number % len(kinds)], "train", rng)
        parts = [fact.context]
        if rng.random() < 0.4:
            parts.append(rng.choice(CHATTER))
        if rng.random() < 0.3:
            parts.append(draw(rng.choice(kinds), "train", rng).context)
        rng.shuffle(parts)
        joined = rng.choice(("\n", " ")).join(parts)
        picture = rng.choice(pictures) if rng.random() < 0.67 else None
        yield context_row(fact.question, joined, fact.answer, picture)


def context_row(question: str, context: str, answer: str, picture: str | None = None) -> Row:
    content = [{"type": "text", "text": question}, {"type": "context", "text": context}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return {"messages": messages} | ({} if picture is None else {"image": picture})


def held_out_facts() -> list[Fact]:
    rng = random.Random("test facts")
    kinds = KINDS["test"]
    return [draw(kinds[number % len(kinds)], "test", rng) for number in range(TESTS)]


def draw(line: str, side: Side, rng: random.Random) -> Fact:
    """Fill a line of KINDS with values."""
    drawn = {kind: rng.choice(words) for kind, words in LISTS[side].items()} | numbers(side, rng)
    context, question, answer = (
        part.format(**drawn).replace("\\n", "\n") for part in line.split("|")
    )
    *_, kind = KIND.findall(line.rpartition("|")[2])
    return Fact(context, question, answer, drawn[kind])


def numbers(side: Side, rng: random.Random) -> dict[str, str]:
    """Draw numbers, times and dates: odd ones in training, even ones in the evaluation."""
    odd = int(side == "train")
    hour, minute = rng.randint(7, 22), 2 * rng.randint(5, 29) + odd
    letters = "".join(rng.choice("ACEGKMPR" if odd else "BDFHLNST") for _ in range(3))
    return {
        "small": str(2 * rng.randint(1, 9) + odd),
        "large": str(2 * rng.randint(10, 49) + odd),
        "long": str(2 * rng.randint(50, 4999) + odd),
        "year": str(2 * rng.randint(850, 1010) + odd),
        "price": f"{rng.randint(2, 99)}.{2 * rng.randint(5, 49) + odd:02d}",
        "time": f"{hour}:{minute:02d}",
        "date": f"{rng.randint(1, 28):02d}/{rng.randint(1, 12):02d}/"
        f"{2 * rng.randint(1000, 1012) + odd}",
        "word": f"{letters}{2 * rng.randint(5, 49) + odd}",
    }
