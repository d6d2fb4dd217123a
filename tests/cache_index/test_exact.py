"""The exact search in torch, on torch's CPU device, compared with FAISS's and NumPy's searches."""

import faiss
import numpy as np
import pytest
import torch

from cache_index import exact
from cache_index.enhance import Array, normalize
from cache_index.exact import ExactIndex, resident_bytes
from cache_index.searcher import Searcher
from cache_index.vectors import Ids, Vectors

TOP_K = 10


@pytest.fixture(scope="module")
def rows() -> Array:
    """Unit vectors (20000, 128) in 2,000 groups, whose members are close to each other."""
    rng = np.random.default_rng(1)
    centers = rng.standard_normal((2000, 128), dtype=np.float32)
    offsets = rng.standard_normal((20_000, 128), dtype=np.float32)
    return normalize(np.repeat(centers, 10, axis=0) + 0.3 * offsets)


@pytest.fixture(scope="module")
def queries(rows: Array) -> Array:
    """Queries (1000, 128) of different norms: half near a row, half far from all rows."""
    rng = np.random.default_rng(2)
    near = rows[rng.integers(len(rows), size=500)] + 0.05 * rng.standard_normal((500, 128))
    far = rng.standard_normal((500, 128))
    return np.concatenate([near, far]).astype(np.float32) * rng.uniform(0.01, 100)


def flat(rows: Array) -> Searcher:
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows.astype(np.float32))
    return Searcher(index, Vectors(rows))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_equals_faiss_flat(rows: Array, queries: Array, dtype: type) -> None:
    """The exact search returns the ids and similarities of FAISS's Flat index."""
    stored = rows.astype(dtype)
    exact_searcher = Searcher(ExactIndex.load(stored, "cpu"), Vectors(stored))
    expected = flat(stored).search(queries, TOP_K)
    actual = exact_searcher.search(queries, TOP_K)
    scale = np.linalg.norm(queries, axis=1, keepdims=True)
    difference = np.abs(actual.similarity - expected.similarity) / scale
    assert difference.max() <= 1e-6
    other = actual.ids != expected.ids  # ids may differ only if two rows are equally similar
    assert (np.abs(actual.similarity - expected.similarity) / scale)[other].max(initial=0) <= 1e-6
    assert other.mean() < 0.01


def brute(rows: Array, queries: Array, number: int) -> Ids:
    order: Ids = np.argsort(-queries @ rows.T, axis=1)[:, :number]
    return order


@pytest.mark.parametrize("count", [1, 31, 32, 33, 500])
@pytest.mark.parametrize("number", [1, 40, 600])
def test_any_number_of_rows_and_results(count: int, number: int) -> None:
    rng = np.random.default_rng(count)
    rows = normalize(rng.standard_normal((count, 16)).astype(np.float32))
    rows = rows.astype(np.float16).astype(np.float32)
    queries = rng.standard_normal((3, 16)).astype(np.float32)
    queries[0] = -rows[0]  # a query whose similarity to a row is negative
    similarity, ids = ExactIndex.load(rows, "cpu").search(queries, number)
    assert ids.shape == similarity.shape == (3, number)
    kept = min(number, count)
    assert (ids[:, :kept] >= 0).all()
    assert (ids[:, kept:] == -1).all()
    expected = np.take_along_axis(queries @ rows.T, brute(rows, queries, kept), axis=1)
    np.testing.assert_allclose(similarity[:, :kept], expected, atol=2e-6)


def test_chunks_give_the_same_as_one_product(
    rows: Array, queries: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ExactIndex.load(rows[:5000], "cpu")
    few = queries[::50]
    similarity, ids = index.search(few, 20)
    # a chunk then has at most 96 rows
    monkeypatch.setattr(exact, "MAX_SCORE_BYTES", 2 * len(few) * 96)
    monkeypatch.setattr(exact, "BLOCK_ROWS", 77)
    again = ExactIndex.load(rows[:5000], "cpu").search(few, 20)
    np.testing.assert_allclose(again[0], similarity, rtol=1e-6, atol=1e-6)
    assert (again[1] == ids).mean() > 0.99


def test_scores_take_no_more_memory_than_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MAX_SCORE_BYTES", 1 << 16)
    largest: list[int] = []
    product = exact.best_of_chunk

    def recorded(queries: torch.Tensor, rows: torch.Tensor, *rest: int) -> object:
        largest.append(2 * len(queries) * len(rows))
        return product(queries, rows, *rest)

    monkeypatch.setattr(exact, "best_of_chunk", recorded)
    rows = normalize(np.random.default_rng(0).standard_normal((9000, 8)).astype(np.float32))
    ExactIndex.load(rows, "cpu").search(rows[:16], 5)
    assert len(largest) == 5
    assert max(largest) <= 1 << 16


def test_equal_rows_are_all_returned() -> None:
    rows = np.tile(normalize(np.ones((1, 8), np.float32)), (200, 1))
    similarity, ids = ExactIndex.load(rows, "cpu").search(rows[:2], 100)
    assert (similarity == similarity[0, 0]).all()
    assert all(len(set(row)) == 100 for row in ids.tolist())


@pytest.mark.parametrize("scale", [1e-3, 1e4, 1e30])
def test_rows_that_float16_cannot_score(scale: float) -> None:
    rows = scale * np.eye(4, 8, dtype=np.float32)
    with pytest.raises(ValueError, match="norm"):
        ExactIndex.load(rows, "cpu")


@pytest.mark.parametrize("scale", [0.1, 900])
def test_rows_of_another_length_than_1(scale: float, rows: Array, queries: Array) -> None:
    stored = scale * rows[:4000]
    few = queries[::40]
    expected = flat(stored).search(few, TOP_K).similarity
    actual = Searcher(ExactIndex.load(stored, "cpu"), Vectors(stored)).search(few, TOP_K).similarity
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6 * scale)


def test_a_result_does_not_depend_on_the_rest_of_the_batch(rows: Array, queries: Array) -> None:
    stored = rows[:3000]
    searcher = Searcher(ExactIndex.load(stored, "cpu"), Vectors(stored))
    top_k = [1 + i % 7 for i in range(20)]
    together = searcher.search(queries[:20], top_k)
    for i, number in enumerate(top_k):
        alone = searcher.search(queries[i : i + 1], number)
        assert np.array_equal(together.ids[i, :number], alone.ids[0])
        assert (together.ids[i, number:] == -1).all()


def test_resident_bytes_cover_rows_and_scores() -> None:
    assert resident_bytes(1_000_000, 1024) == 2 * 1_000_000 * 1024 + (256 << 20)
    assert resident_bytes(33, 8) == 2 * 64 * 8 + (256 << 20)
