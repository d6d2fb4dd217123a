import json
import random
from pathlib import Path

import pytest

from model_ext.eval.scorers.cider import cider_ptb, cider_raw
from tests.model_ext.eval.goldens import TOLERANCE, cases


def test_recorded_corpora() -> None:
    rows = cases("cider")
    assert sum(len(items) for items, *_ in rows) == 82
    for items, raw, raw_each, official, official_each in rows:
        answers, references = zip(*items, strict=True)
        scores = cider_raw(answers, references)
        assert scores == pytest.approx(raw_each, abs=TOLERANCE)
        assert sum(scores) / len(scores) == pytest.approx(raw, abs=TOLERANCE)
        scores = cider_ptb(answers, references)
        assert scores == pytest.approx(official_each, abs=TOLERANCE)
        assert sum(scores) / len(scores) == pytest.approx(official, abs=TOLERANCE)


DEMO = Path(__file__).parents[4] / "model_ext/demo/lists/evaluation.jsonl"
WORDS = (
    "a",
    "A",
    "the",
    "cat",
    "Cat.",
    "sits,",
    "3.50",
    "—",
    "naïve",
    "'s",
    "two\u00a0parts",
    "!!",
)


def random_text(generator: random.Random) -> str:
    spaces = generator.choice([" ", "  ", "\t"])
    return spaces.join(generator.choices(WORDS, k=generator.randrange(12)))


def corpora() -> list[tuple[list[str], list[list[str]]]]:
    """Return answers and references of 50 random corpora, and of the demonstration's captions."""
    generator = random.Random(0)
    result = []
    for items in (*range(1, 50), 200):
        references = [
            ["a cat", *(random_text(generator) for _ in range(generator.randrange(5)))]
            for _ in range(items)
        ]
        result.append(([random_text(generator) for _ in range(items)], references))
    rows = [json.loads(line) for line in DEMO.read_text().splitlines()]
    captions = [row["answers"] for row in rows if row["metric"] == "cider_raw"]
    return [*result, ([first for first, *_ in captions[1:] + captions[:1]], captions)]


def test_equals_pycocoevalcap() -> None:
    """pycocoevalcap is in the extra `test`. Its tokeniser needs Java, and is not used."""
    module = pytest.importorskip("pycocoevalcap.cider.cider")
    for answers, references in corpora():
        total, each = module.Cider().compute_score(
            dict(enumerate(references)), {n: [answer] for n, answer in enumerate(answers)}
        )
        scores = cider_raw(answers, references)
        assert scores == pytest.approx(list(each), abs=TOLERANCE)
        assert sum(scores) / len(scores) == pytest.approx(total, abs=TOLERANCE)


def test_equal_captions_score_ten() -> None:
    texts = ["a dog runs on grass", "three birds sit over there"]
    assert cider_raw(texts, [[t] for t in texts]) == pytest.approx([10, 10])


def test_one_item_and_empty_texts_score_zero() -> None:
    assert cider_raw(["a dog"], [["a dog"]]) == [0]
    assert cider_raw(["", "a b"], [[""], [""]]) == [0, 0]
    assert cider_raw([], []) == []


def test_rejects_items_without_references() -> None:
    with pytest.raises(ValueError, match="item 1 has no reference"):
        cider_raw(["a", "b"], [["a"], []])
    with pytest.raises(ValueError, match="2 answers but 1"):
        cider_raw(["a", "b"], [["a"]])
