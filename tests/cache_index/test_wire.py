"""Unpacking a packed body returns its content. Unpacking a malformed body raises an error."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_index.captions import Caption
from cache_index.enhance import CacheParams
from cache_index.enhancer import EnhancedRow
from cache_index.errors import CacheUnavailable, QueryError
from cache_index.wire import EnhanceRequest, pack_query, pack_row, unpack_query, unpack_row

D, K = 6, 3
RNG = np.random.default_rng(1)
ROW = EnhancedRow(
    RNG.standard_normal(D).astype(np.float32),
    np.array([2**40, 7, 0]),
    RNG.standard_normal(K).astype(np.float32),
    (Caption("a ☔", "1"), Caption(None, None), Caption('"')),
    RNG.standard_normal((K, D)).astype(np.float32),
)
PLAIN = EnhancedRow(ROW.vector, ROW.ids, ROW.similarity)
FULL = EnhanceRequest(CacheParams(top_k=K), explain=True, prototypes=True)


def same(first: EnhancedRow, second: EnhancedRow) -> bool:
    arrays = ("vector", "ids", "similarity", "prototypes")
    return first.captions == second.captions and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays
    )


def test_rows_there_and_back() -> None:
    assert same(unpack_row(pack_row(ROW, FULL), K, D, FULL), ROW)
    parameters = EnhanceRequest(CacheParams(top_k=K))
    body = pack_row(PLAIN, parameters)
    assert len(body) == 4 * D + 12 * K
    assert same(unpack_row(body, K, D, parameters), PLAIN)


def test_the_limit_holds_the_largest_answer() -> None:
    assert len(pack_row(ROW, FULL)) <= FULL.limit(D)
    assert len(pack_row(PLAIN, EnhanceRequest(CacheParams(top_k=K)))) == EnhanceRequest(
        CacheParams(top_k=K)
    ).limit(D)


def test_queries_there_and_back() -> None:
    assert pack_query(ROW.vector)[:4] == np.float32(ROW.vector[0]).tobytes()
    assert np.array_equal(unpack_query(pack_query(ROW.vector), D), ROW.vector)
    for wrong in (b"", pack_query(ROW.vector)[:-1], pack_query(ROW.vector) + b"\0"):
        with pytest.raises(QueryError, match="6 little-endian float32"):
            unpack_query(wrong, D)


@pytest.mark.parametrize(
    "parameters",
    [
        FULL,
        EnhanceRequest(CacheParams(7, 0.1 + 0.2, 1 / 3, "paper")),
        EnhanceRequest(CacheParams(), explain=True),
    ],
)
def test_parameters_there_and_back(parameters: EnhanceRequest) -> None:
    assert EnhanceRequest.unpack(parameters.pack(), CacheParams(top_k=99)) == parameters


def test_defaults_are_the_caches() -> None:
    defaults = CacheParams(top_k=3, weight=0.1, form="paper")
    assert EnhanceRequest.unpack({}, defaults) == EnhanceRequest(defaults)


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({"size": "3"}, "size"),
        ({"top_k": "3.5"}, "top_k"),
        ({"top_k": "9" * 5000}, "top_k"),
        ({"weight": "2"}, "weight"),
        ({"temperature": "nan"}, "temperature"),
        ({"form": "x"}, "form"),
        ({"explain": "true"}, "explain"),
    ],
)
def test_wrong_parameters(given_: dict[str, str], named: str) -> None:
    with pytest.raises(QueryError, match=named):
        EnhanceRequest.unpack(given_, CacheParams())


@given(st.binary(max_size=400), st.integers(0, 10), st.booleans(), st.booleans())
def test_any_bytes_are_an_answer_or_refused(
    body: bytes, neighbors: int, explain: bool, prototypes: bool
) -> None:
    parameters = EnhanceRequest(CacheParams(top_k=K), explain, prototypes)
    try:
        row = unpack_row(body, neighbors, D, parameters)
    except CacheUnavailable:
        return
    assert row.vector.shape == (D,)
    assert len(row.ids) == len(row.similarity) == neighbors <= K
    assert np.isfinite(row.vector).all()


@pytest.mark.parametrize(
    "captions", ["{}", "[1, 2, 3]", '[{"caption": 1}]', "[" * 5000, "[]", json.dumps([{}] * 3)]
)
def test_wrong_captions(captions: str) -> None:
    body = pack_row(ROW, EnhanceRequest(CacheParams(top_k=K), prototypes=True)) + captions.encode()
    with pytest.raises(CacheUnavailable, match="captions"):
        unpack_row(body, K, D, FULL)
