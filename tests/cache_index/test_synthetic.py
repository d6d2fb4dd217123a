"""The generated features are reproducible. Approximate searches in them miss some neighbors."""

import faiss
import numpy as np

from cache_index.enhance import Array
from cache_index.recall import Trial, make_trial
from cache_index.searcher import Searcher
from cache_index.synthetic import BLOCK, ROWS, UNSEEN_QUERIES, SyntheticFeatures
from cache_index.vectors import Vectors
from tests.rounding import rounding


def rows(count: int, stream: int = ROWS, seed: int = 0) -> Array:
    features = SyntheticFeatures(count, 64, stream=stream, seed=seed)
    return np.concatenate(list(features.blocks()))


def test_a_short_stream_is_the_beginning_of_a_long_one() -> None:
    long = rows(BLOCK + 100)
    assert np.array_equal(rows(BLOCK + 7), long[: BLOCK + 7])
    assert np.array_equal(rows(50), long[:50])
    assert len(long) == BLOCK + 100
    np.testing.assert_allclose(np.linalg.norm(long, axis=1), 1, atol=rounding([long.shape[1]]))


def test_streams_and_seeds_differ() -> None:
    assert not np.allclose(rows(10), rows(10, stream=UNSEEN_QUERIES))
    assert not np.allclose(rows(10), rows(10, seed=1))


def test_the_numbers_stay() -> None:
    """The generator returns the same data as for the measurements in docs/measurements.md."""
    first = [[0.12622169, 0.18231668, -0.00349389], [0.00314350, -0.00353031, -0.00280556]]
    np.testing.assert_allclose(rows(2)[:, :3], first, atol=1e-6)


def test_one_cell_is_not_enough() -> None:
    """Even in this small sample of the data, a search that visits one cell misses neighbors."""
    data, queries = rows(20_000), rows(200, UNSEEN_QUERIES)
    index = faiss.index_factory(64, "IVF512,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(data)
    index.add(data)
    trial: Trial = make_trial(data, queries, None, 10)
    assert trial.recall(Searcher(index, Vectors(data))).mean() < 0.7
