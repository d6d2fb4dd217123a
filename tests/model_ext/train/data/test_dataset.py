"""Batches: noise on embeddings, and samples that are sorted by length."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model_ext.train import distributed
from model_ext.train.data.dataset import ConditionedText
from model_ext.train.data.embeddings import SINGLE_WEIGHT
from model_ext.train.data.examples import Example, Picture
from model_ext.train.data.tokens import Turn
from model_ext.train.run import TrainingPlan
from tests.model_ext.train.letters import Letters

NOISE, WIDTH = 0.04, 256
LENGTHS = (9, 2, 7, 1, 8, 3, 6, 4)


def dataset(noise: float = 0.0) -> ConditionedText:
    """Examples with texts of different lengths. All but the first have the same picture."""
    examples = [
        Example((Turn("a" * length, "b"),), Picture(Path("a.png")) if number else None)
        for number, length in enumerate(LENGTHS)
    ]
    vectors = np.eye(1, WIDTH, dtype=np.float32)[None]
    zero = torch.eye(WIDTH)[1]
    return ConditionedText(examples, Letters(), vectors, zero, 999, "plain", noise)


def test_noise_depends_on_the_example_and_the_epoch_only() -> None:
    noisy = dataset(NOISE)
    assert noisy.embedding(1, 0).equal(dataset(NOISE).embedding(1, 0))
    assert not noisy.embedding(1, 0).equal(noisy.embedding(2, 0))
    assert not noisy.embedding(1, 0).equal(noisy.embedding(1, 1))
    assert noisy.embedding(0, 0).equal(torch.eye(WIDTH)[1] * SINGLE_WEIGHT)
    assert dataset().embedding(1, 0).equal(torch.eye(WIDTH)[0] * SINGLE_WEIGHT)


def test_noise_has_its_size_and_the_embedding_keeps_length_1() -> None:
    noisy = dataset(NOISE)
    vectors = torch.stack([noisy.embedding(1, epoch) for epoch in range(400)])
    assert vectors.norm(dim=1).numpy() == pytest.approx(np.full(400, SINGLE_WEIGHT), rel=1e-5)
    noise = (vectors / vectors[:, :1])[:, 1:]
    assert float(noise.std()) == pytest.approx(NOISE / 3**0.5, rel=0.1)  # uniform scale


@pytest.mark.parametrize("sorts", [False, True])
def test_the_samples_of_an_update_are_sorted_before_they_are_cut(
    sorts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    monkeypatch.setattr(distributed, "world", lambda: 1)
    plan = TrainingPlan(
        **{"examples": 8, "batch": 2, "accumulate": 2, "updates_per_epoch": 2, "epochs": 1},
        **{"warmup": 0, "split": 1, "peak": 1, "minimum": 0, "seed": 0},
        sorts=sorts,
    )
    texts = dataset()
    updates = [list(plan.batches(update, texts)) for update in (0, 1)]
    lengths = [
        [len(row.nonzero()) for batch in batches for row in batch.ids] for batches in updates
    ]
    assert sorted(lengths[0] + lengths[1]) == sorted(
        len(texts.tokenized(number).ids) for number in range(8)
    )
    assert all((each == sorted(each)) == sorts for each in lengths)
