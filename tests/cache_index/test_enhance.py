"""`enhance` equals a slow float64 version of its formula, also if the parameters of rows differ."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cache_index.enhance import CacheParams, enhance
from cache_index.errors import QueryError
from tests.rounding import between

B, K, D = 5, 7, 16
RNG = np.random.default_rng(3)
QUERY = RNG.standard_normal((B, D)).astype(np.float32)
PROTOTYPE = RNG.standard_normal((B, K, D)).astype(np.float32)
SIMILARITY = -np.sort(-RNG.standard_normal((B, K)), axis=1).astype(np.float32)
ALL = np.ones((B, K), dtype=bool)
# maximum rounding error of similarities, weighted prototypes and two norms
BOUND = between([D, K, D, D]) * float(np.abs(QUERY).max())


def slow(row: int, hits: int, p: CacheParams) -> NDArray[np.float64]:
    """Compute the formula of `enhance` for one row, neighbor by neighbor, in float64."""
    k = min(p.top_k, hits)
    query, scores = QUERY[row].astype(float), SIMILARITY[row, :k].astype(float)
    if k == 0:
        return query if p.form == "paper" else query / np.linalg.norm(query)
    if p.form == "paper":
        recalled = sum(s * v for s, v in zip(scores, PROTOTYPE[row], strict=False))
        return p.weight * recalled + (1 - p.weight) * query
    share = np.exp(p.inverse_temperature * scores)
    share /= share.sum()
    recalled = sum(s * v for s, v in zip(share, PROTOTYPE[row].astype(float), strict=False))
    blended = (1 - p.weight) * query + p.weight * recalled / np.linalg.norm(recalled)
    return blended / np.linalg.norm(blended)


MIXED = [
    CacheParams(),
    CacheParams(top_k=3, inverse_temperature=2, weight=1),
    CacheParams(top_k=5, weight=0.3, form="paper"),
    CacheParams(top_k=1, weight=0),
    CacheParams(top_k=7, inverse_temperature=0, weight=0.9),
]


def test_rows_with_their_own_parameters() -> None:
    got = enhance(QUERY, SIMILARITY, ALL, PROTOTYPE, MIXED)
    assert got.dtype == np.float32
    for row, params in enumerate(MIXED):
        np.testing.assert_allclose(got[row], slow(row, K, params), atol=BOUND)


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("hits", range(K + 1))
def test_fewer_hits_than_asked(form: str, hits: int) -> None:
    params = CacheParams(top_k=K, inverse_temperature=3, weight=0.8, form=form)  # type: ignore[arg-type]
    hit = np.arange(K) < np.array([K, hits, K, hits, hits])[:, None]
    # FAISS returns this similarity for a missing result.
    trash = np.where(hit, SIMILARITY, np.float32(-3.4e38))
    got = enhance(QUERY, trash, hit, PROTOTYPE, [params] * B)
    for row in range(B):
        np.testing.assert_allclose(got[row], slow(row, int(hit[row].sum()), params), atol=BOUND)


def test_rows_do_not_mix() -> None:
    """Each query uses only its own neighbors, whereas in the released code all queries of a batch
    share neighbors.
    """
    together = enhance(QUERY, SIMILARITY, ALL, PROTOTYPE, MIXED)
    for row in range(B):
        one = slice(row, row + 1)
        alone = enhance(QUERY[one], SIMILARITY[one], ALL[one], PROTOTYPE[one], MIXED[one])
        np.testing.assert_allclose(together[one], alone, atol=1e-7)


def test_weight_zero_still_has_unit_length() -> None:
    got = enhance(QUERY, SIMILARITY, ALL, PROTOTYPE, [CacheParams(weight=0)] * B)
    np.testing.assert_allclose(
        got, QUERY / np.linalg.norm(QUERY, axis=1, keepdims=True), atol=BOUND
    )


def test_paper_form_ignores_the_temperature_and_keeps_the_length() -> None:
    cold, hot = (CacheParams(form="paper", inverse_temperature=t) for t in (0.0, 1e6))
    first = enhance(QUERY, SIMILARITY, ALL, PROTOTYPE, [cold] * B)
    assert np.array_equal(first, enhance(QUERY, SIMILARITY, ALL, PROTOTYPE, [hot] * B))
    assert not np.allclose(np.linalg.norm(first, axis=1), 1, atol=0.1)


def test_largest_temperature_takes_the_best_neighbor_only() -> None:
    params = CacheParams(inverse_temperature=1e6, weight=1)
    got = enhance(QUERY, SIMILARITY, ALL, PROTOTYPE, [params] * B)
    best = PROTOTYPE[:, 0] / np.linalg.norm(PROTOTYPE[:, 0], axis=1, keepdims=True)
    np.testing.assert_allclose(got, best, atol=1e-6)


def test_a_zero_blend_is_zero_not_nan() -> None:
    zero = np.zeros((1, D), dtype=np.float32)
    nothing = np.zeros((1, K), dtype=bool)
    got = enhance(zero, SIMILARITY[:1], nothing, PROTOTYPE[:1], [CacheParams()])
    assert np.array_equal(got, zero)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1025}, "top_k"),
        ({"top_k": 2.5}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"inverse_temperature": float("nan")}, "temperature"),
        ({"inverse_temperature": float("inf")}, "temperature"),
        ({"inverse_temperature": -1.0}, "temperature"),
        ({"weight": 1.01}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"form": "softmax"}, "form"),
    ],
)
def test_parameters_out_of_range(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(QueryError, match=named):
        CacheParams(**wrong)  # type: ignore[arg-type]
