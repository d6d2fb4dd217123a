"""Values of the arguments of tools. No value is in both training and evaluation."""

import random
from typing import Literal

from model_ext.demo.splits import CONCEPTS

Side = Literal["train", "test"]
FOLDERS = {"file": "png", "sound": "wav", "clip": "mp4", "document": "pdf"}
PREFIXES = {"file": "image", "sound": "audio", "clip": "video", "document": "text"}
THINGS = (
    *("apple", "dog", "car", "house", "tree", "table", "lemon", "ball", "hat", "shoe", "cup"),
    *("book", "moon", "star", "rabbit", "mouse", "tiger", "lion", "bear", "train", "truck", "door"),
    *("spoon", "knife", "plate", "coat", "bird", "frog", "bee", "rose", "leaf", "stone", "wheel"),
    *("man", "woman", "child", "wall", "road", "sign", "bag", "box", "pear", "onion", "cake"),
    *("brown dog", "red car", "old house", "green apple", "yellow coat", "tall tree", "wooden box"),
    *("small bird", "white rabbit", "broken cup", "blue door", "black hat", "silver spoon"),
)
# Names of things that only the evaluation uses.
HELD_OUT = (
    *("lamp", "bridge", "basket", "river", "chair", "boat", "window", "flower", "statue", "kite"),
    *("drum", "tower", "bottle", "garden", "clock", "bench", "ladder", "mirror", "pillow"),
    "barrel",
)
CITIES = {
    "train": (
        *("Paris", "Rome", "Madrid", "Berlin", "London", "Vienna", "Oslo", "Dublin", "Prague"),
        *("Tokyo", "Lima", "Cairo", "Boston", "Sydney", "Toronto", "Zurich", "Milan", "Delhi"),
    ),
    "test": ("Lisbon", "Athens", "Warsaw", "Seoul", "Chicago", "Geneva", "Nairobi", "Porto"),
}
PERSONS = {
    "train": (
        *("Anna", "Paul", "Maria", "Tom", "Lucy", "Peter", "Eva", "Max", "Nina", "Oscar", "Ruth"),
        *("Leo", "Clara", "Hugo", "Ida", "Karl", "Mia", "Noah", "Olga", "Sam", "Tina", "Viktor"),
    ),
    "test": ("Emma", "Jonas", "Sophie", "David", "Greta", "Felix", "Laura", "Simon"),
}
TEXTS = {
    "train": (
        *("I will be late", "the train is full", "dinner is ready", "good luck", "call me back"),
        *("the door is open", "happy birthday", "see you on Monday", "the key is on the table"),
        *("we won the game", "bring some bread", "the dog is ill", "please buy milk"),
        *("my phone is broken", "the shop is closed", "it starts at nine", "thanks for the gift"),
    ),
    "test": (
        *("I am at the station", "the meeting is over", "please feed the cat", "all is well"),
        *("the car is ready", "come to the party", "the book has arrived", "wait for me"),
    ),
}
WORDS = {
    "color": ("red", "blue", "green", "yellow", "black", "white", "orange", "pink", "brown"),
    "language": ("French", "German", "Spanish", "Italian", "Chinese", "Greek", "Dutch", "Polish"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "style": ("watercolor", "oil paint", "pencil", "comic", "mosaic", "pixel art", "pastel"),
}


def values(side: Side, rng: random.Random) -> dict[str, str | int]:
    """Draw a value of each kind. `new` is the name of a result file."""
    thing, other = rng.sample(THINGS + CONCEPTS if side == "train" else HELD_OUT, 2)
    return {
        **{kind: file_name(rng, kind) for kind in FOLDERS},
        **{"new": file_name(rng), "thing": thing, "other": other},
        **{"city": rng.choice(CITIES[side]), "person": rng.choice(PERSONS[side])},
        **{"text": rng.choice(TEXTS[side]), "number": number(side, rng)},
        **{kind: rng.choice(words) for kind, words in WORDS.items()},
    }


def number(side: Side, rng: random.Random) -> int:
    """Draw a number: in training not divisible by 7, in the evaluation divisible by 7."""
    multiple = 7 * rng.randint(1, 13)
    return multiple if side == "test" else multiple + rng.randint(1, 6)


def file_name(rng: random.Random, kind: str = "file") -> str:
    return f"{PREFIXES[kind]}/{rng.getrandbits(32):08x}.{FOLDERS[kind]}"
