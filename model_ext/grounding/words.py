"""The words of words.toml as sets: nouns that name no visible thing, and words that say that a
thing is absent.
"""

import tomllib
from pathlib import Path

_FILE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


def _words(name: str) -> frozenset[str]:
    return frozenset(_FILE[name].split())


PICTURE = _words("picture")
ARTWORK = _words("artwork")
POSITION = _words("position")
QUANTITY = _words("quantity")
DETERMINERS = _words("determiners")
ABSTRACT = _words("abstract")
THINGS_ON_ING = _words("things_on_ing")
NEGATIONS = _words("negations")
ABSENCE_VERBS = _words("absence_verbs")
ABSENT = _words("absent")
SHOWN = _words("shown")
PRESENT = _words("present")
ABSENCE_PREPOSITIONS = _words("absence_prepositions")
COMPARISONS = _words("comparisons")
COMPARED = _words("compared")
