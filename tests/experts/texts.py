"""Make random simple English sentences, and score the recognized words."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial


def listed(text: str) -> list[str]:
    return text.split()


NOUNS = listed(
    "teacher doctor farmer neighbor painter driver singer child woman man dog cat horse bird ship "
    "train garden river mountain bridge window kitchen market letter picture basket bottle hammer "
    "blanket chair table ladder candle mirror"
)
VERBS = listed("found carried watched painted opened moved cleaned repaired bought followed")
ADJECTIVES = listed("old small red quiet heavy bright wooden green cold broken tall yellow")
PLACES = ["behind the house", "near the station", "in the morning", "under the bridge"]
DAYS = listed("Monday Tuesday Wednesday Thursday Friday")
NUMBERS = listed("two three four five six seven eight nine ten eleven twelve")


def sentence(choose: random.Random) -> str:
    noun, place, number = (partial(choose.choice, each) for each in (NOUNS, PLACES, NUMBERS))
    verb, adjective = choose.choice(VERBS), choose.choice(ADJECTIVES)
    return choose.choice(
        [
            f"The {noun()} {verb} the {adjective} {noun()} {place()}.",
            f"On {choose.choice(DAYS)} the {adjective} {noun()} {verb} {number()} {noun()}s.",
            f"My {noun()} {verb} a {adjective} {noun()} {place()}.",
            f"There are {number()} {adjective} {noun()}s {place()}, and one {noun()}.",
        ]
    )


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def shared(expected: str, recognized: str) -> int:
    """Count the expected words that were recognized, in any order."""
    return (Counter(words(expected)) & Counter(words(recognized))).total()


def errors(expected: Sequence[str], recognized: Sequence[str]) -> int:
    """Compute the edit distance: the number of substituted, inserted and deleted words."""
    row = list(range(len(recognized) + 1))
    for i, word in enumerate(expected, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(recognized, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]
