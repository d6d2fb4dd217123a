"""Average normalised Levenshtein similarity (ANLS) of one answer."""

from collections.abc import Sequence

THRESHOLD = 0.5


def anls(answer: str, truths: Sequence[str]) -> float:
    """ANLS as the official evaluation server computes it: a distance is divided by the length of
    the longer text before normalisation.

    Returns the highest similarity to a truth, or 0 if it is below 0.5 or there are no truths.
    """
    best = max((1 - server_distance(answer, truth) for truth in truths), default=0.0)
    return best if best >= THRESHOLD else 0.0


def anls_paper(answer: str, truths: Sequence[str]) -> float:
    """ANLS as the ST-VQA paper defines it: lengths are those of the normalised texts, and the
    distance must be below 0.5.
    """
    least = min((paper_distance(answer, truth) for truth in truths), default=1.0)
    return 1 - least if least < THRESHOLD else 0.0


def server_distance(answer: str, truth: str) -> float:
    length = max(len(answer.upper()), len(truth.upper()))
    return levenshtein(collapse(answer), collapse(truth)) / length if length else 0.0


def paper_distance(answer: str, truth: str) -> float:
    text, expected = collapse(answer), collapse(truth)
    length = max(len(text.upper()), len(expected.upper()))
    return levenshtein(text, expected) / length if length else 0.0


def collapse(text: str) -> str:
    return " ".join(text.lower().split())


def levenshtein(a: str, b: str) -> int:
    """Return the smallest number of inserted, deleted and replaced characters that turns `a` into
    `b`.
    """
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            replaced = previous + (left != right)
            previous = row[j]
            row[j] = min(replaced, row[j] + 1, row[j - 1] + 1)
    return row[-1]
