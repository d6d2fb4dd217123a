"""Results equal the numbers (goldens) that were recorded from the released code with its two
indexes.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cache_index.enhance import CacheParams
from cache_index.index import CacheIndex
from tests.rounding import between

FIXTURES = Path(__file__).parents[1] / "fixtures"
VISUAL = load_file(FIXTURES / "golden" / "visual.safetensors")
KEY = re.compile(r"(?P<combo>\w+)/(?P<index>[\w.-]+)/size(\d+)_t([\d.]+)_w([\d.]+)/enhanced")
GOLDENS = [key for key in VISUAL if KEY.fullmatch(key)]
INDEXES = ("knn.index", "knn-ivf.index")
BOUND = between([40, 10, 40, 40])  # the largest allowed rounding error


def split(key: str) -> tuple[str, str, CacheParams]:
    match = KEY.fullmatch(key)
    assert match is not None
    combo, index, top_k, temperature, weight = match.groups()
    return combo, index, CacheParams(int(top_k), float(temperature), float(weight))


def test_there_are_goldens() -> None:
    assert len(GOLDENS) == 44
    assert {split(key)[1] for key in GOLDENS} == set(INDEXES)


@pytest.mark.parametrize("key", GOLDENS)
def test_one_query(key: str, released: Callable[[str], CacheIndex]) -> None:
    combo, index, params = split(key)
    enhanced = released(index).enhance(VISUAL[f"{combo}/mixed"], [params])
    np.testing.assert_allclose(enhanced.vectors, VISUAL[key], rtol=0, atol=BOUND)


@pytest.mark.parametrize("index", INDEXES)
def test_all_in_one_batch(index: str, released: Callable[[str], CacheIndex]) -> None:
    """Queries of one batch can have different top_k, temperature and weight."""
    keys = [key for key in GOLDENS if split(key)[1] == index]
    queries = np.concatenate([VISUAL[f"{split(key)[0]}/mixed"] for key in keys])
    enhanced = released(index).enhance(queries, [split(key)[2] for key in keys])
    expected = np.concatenate([VISUAL[key] for key in keys])
    np.testing.assert_allclose(enhanced.vectors, expected, rtol=0, atol=BOUND)


def test_the_ivf_index_keeps_its_nprobe(released: Callable[[str], CacheIndex]) -> None:
    manifest = released("knn-ivf.index").manifest
    assert (manifest.kind, manifest.search.nprobe) == ("IVF32,Flat", 6)
