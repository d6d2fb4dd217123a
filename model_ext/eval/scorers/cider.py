"""CIDEr-D of generated captions, computed from their words as pycocoevalcap's `Cider` does.

LVLM-eHub splits captions at white space and keeps the case. For the strict score, `ptb.py` splits
captions into tokens first. The document frequencies are those of the items in the same call.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from model_ext.eval.scorers.ptb import ptb_tokens

ORDERS = range(1, 5)
SIGMA = 6.0
SCALE = 10.0
Ngram = tuple[str, ...]


class Caption(NamedTuple):
    weights: list[dict[Ngram, float]]  # For each n: n-gram -> TF-IDF weight.
    norms: list[float]  # For each n: the norm of the weights.
    length: int  # The number of bigrams, which pycocoevalcap uses as the length.


def cider_raw(answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return each item's score, 0 to 10. Words are separated by white space, as in LVLM-eHub."""
    return cider(answers, references, str.split)


def cider_ptb(answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return each item's strict score, 0 to 10. Words are separated as in the Penn Treebank."""
    return cider(answers, references, ptb_tokens)


def cider(
    answers: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenise: Callable[[str], list[str]],
) -> list[float]:
    """Return the score of each item. The mean is the score of the corpus. A single item scores 0,
    because its inverse document frequencies are ln 1 = 0.

    Raises ValueError: when the lists differ in length or an item has no references.
    """
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers but {len(references)} lists of references")
    for index, texts in enumerate(references):
        if not texts:
            raise ValueError(f"item {index} has no reference caption")
    grams = [[ngrams(tokenise(text)) for text in texts] for texts in references]
    frequencies = Counter(gram for texts in grams for gram in set().union(*texts))
    log_items = math.log(len(answers)) if answers else 0.0

    def weigh(counts: Counter[Ngram]) -> Caption:
        weights: list[dict[Ngram, float]] = [{} for _ in ORDERS]
        for gram, count in counts.items():
            idf = log_items - math.log(max(1, frequencies[gram]))
            weights[len(gram) - 1][gram] = count * idf
        norms = [math.sqrt(sum(w * w for w in order.values())) for order in weights]
        return Caption(weights, norms, sum(n for gram, n in counts.items() if len(gram) == 2))

    scores = []
    for answer, counters in zip(answers, grams, strict=True):
        caption = weigh(ngrams(tokenise(answer)))
        similarities = [similarity(caption, weigh(counts)) for counts in counters]
        scores.append(SCALE * sum(similarities) / len(similarities))
    return scores


def ngrams(words: Sequence[str]) -> Counter[Ngram]:
    return Counter(
        tuple(words[start : start + n]) for n in ORDERS for start in range(len(words) - n + 1)
    )


def similarity(caption: Caption, reference: Caption) -> float:
    """Return the clipped cosine of two captions, averaged over the n of the n-grams, times the
    length penalty.
    """
    total = 0.0
    for own, other, norm, other_norm in zip(
        caption.weights, reference.weights, caption.norms, reference.norms, strict=True
    ):
        product = sum(
            min(w, other.get(gram, 0.0)) * other.get(gram, 0.0) for gram, w in own.items()
        )
        total += product / (norm * other_norm) if norm and other_norm else product
    penalty = math.exp(-((caption.length - reference.length) ** 2) / (2 * SIGMA**2))
    return total / len(ORDERS) * penalty
