"""Random simple English sentences, and the score of recognized words."""

import random
import re
from collections import Counter
from collections.abc import Sequence

NOUNS = [
    "teacher",
    "doctor",
    "farmer",
    "neighbor",
    "painter",
    "driver",
    "singer",
    "child",
    "woman",
    "man",
    "dog",
    "cat",
    "horse",
    "bird",
    "ship",
    "train",
    "garden",
    "river",
    "mountain",
    "bridge",
    "window",
    "kitchen",
    "market",
    "letter",
    "picture",
    "basket",
    "bottle",
    "hammer",
    "blanket",
    "chair",
    "table",
    "ladder",
    "candle",
    "mirror",
]
VERBS = [
    "found",
    "carried",
    "watched",
    "painted",
    "opened",
    "moved",
    "cleaned",
    "repaired",
    "bought",
    "followed",
]
ADJECTIVES = [
    "old",
    "small",
    "red",
    "quiet",
    "heavy",
    "bright",
    "wooden",
    "green",
    "cold",
    "broken",
    "tall",
    "yellow",
]
PLACES = [
    "behind the house",
    "near the station",
    "in the morning",
    "after lunch",
    "under the bridge",
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
NUMBERS = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


def sentence(choose: random.Random) -> str:
    noun, verb, adjective = choose.choice, choose.choice(VERBS), choose.choice(ADJECTIVES)
    return choose.choice(
        [
            f"The {noun(NOUNS)} {verb} the {adjective} {noun(NOUNS)} {choose.choice(PLACES)}.",
            f"On {choose.choice(DAYS)} the {adjective} {noun(NOUNS)} {verb} {choose.choice(NUMBERS)} "
            f"{noun(NOUNS)}s.",
            f"My {noun(NOUNS)} {verb} a {adjective} {noun(NOUNS)} {choose.choice(PLACES)}.",
            f"There are {choose.choice(NUMBERS)} {adjective} {noun(NOUNS)}s "
            f"{choose.choice(PLACES)}, and one {noun(NOUNS)}.",
        ]
    )


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def shared(expected: str, recognized: str) -> int:
    """The number of expected words that were recognized, in any order."""
    return (Counter(words(expected)) & Counter(words(recognized))).total()


def errors(expected: Sequence[str], recognized: Sequence[str]) -> int:
    """The edit distance: substituted, inserted and deleted words."""
    row = list(range(len(recognized) + 1))
    for i, word in enumerate(expected, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(recognized, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]
