"""The demonstration's evaluation: correct answers, and the same retrieval as in the server."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cache_index.enhance import CacheParams, enhance
from model_ext.demo.evaluate import HeldOut, is_correct, share
from model_ext.demo.retrieval import TOP_K, enhanced, shuffled


@pytest.mark.parametrize(
    ("answer", "concept", "correct"),
    [
        ("a cat.", "cat", True),
        ("This is a Cat", "cat", True),
        ("two cats", "cat", True),
        ("a caterpillar", "cat", False),
        ("category", "cat", False),
        ("a cat and a dog", "cat", True),  # "dog" is not one of the concepts
        ("a cat or a horse", "cat", False),
        ("a horse", "cat", False),
        ("", "cat", False),
        ("a cherry", "cherries", True),
        ("a starfish", "fish", False),
    ],
)
def test_whole_words_count(answer: str, concept: str, correct: bool) -> None:
    assert is_correct(answer, concept) is correct


def test_share_compares_each_answer() -> None:
    class FakeModel:
        """A fake model. The first number of an embedding is the index of the answer."""

        def answer(self, vectors: torch.Tensor) -> list[str]:
            return [("a cat", "a bus")[int(vector[0])] for vector in vectors]

    held_out = HeldOut(torch.tensor([[0.0], [1.0], [1.0], [0.0]]), ("cat", "bus", "cat", "owl"))
    assert share(FakeModel(), held_out, held_out.vectors) == 0.5  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_same_as_the_cache_that_serves(weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    keys = F.normalize(torch.randn(40, 16, generator=generator), dim=1)
    queries = 0.7 * F.normalize(torch.randn(5, 16, generator=generator), dim=1)
    scores, rows = (queries @ keys.T).topk(TOP_K, dim=1)
    params = [CacheParams(weight=weight)] * len(queries)
    hit = np.ones(scores.shape, bool)
    served = enhance(queries.numpy(), scores.numpy(), hit, keys[rows].numpy(), params)
    np.testing.assert_allclose(enhanced(queries, keys, weight).numpy(), served, atol=1e-6)


def test_the_control_retrieves_the_same_rows_and_uses_other_values() -> None:
    keys = F.normalize(torch.randn(40, 16), dim=1)
    other = shuffled(keys, 1)
    assert not torch.equal(other, keys)
    assert torch.equal(other.sort(0).values, keys.sort(0).values)
    queries = keys[:3]
    control = enhanced(queries, keys, 1.0, other)
    assert (control * queries).sum(1).max() < (enhanced(queries, keys, 1.0) * queries).sum(1).min()
