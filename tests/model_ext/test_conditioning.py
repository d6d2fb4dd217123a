import numpy as np
import pytest

from model_ext.conditioning import cache_salt, pack, unpack


def test_unpack_reverses_pack() -> None:
    vector = np.linspace(-1, 1, 40, dtype=np.float32)
    unpacked = unpack(pack(vector), 40)
    assert unpacked is not None
    assert (unpacked == vector).all()


@pytest.mark.parametrize(
    "vector", [np.array([1, np.nan]), np.array([1, np.inf]), np.ones((1, 4))], ids=str
)
def test_pack_rejects_other_arrays(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"finite|axis"):
        pack(vector.astype(np.float32))


@pytest.mark.parametrize(
    "packed",
    [
        None,
        "text",
        [0.0] * 40,
        {"data": "x"},
        b"",
        b"\0" * 159,
        b"\0" * 164,
        np.full(40, np.nan, "<f4").tobytes(),
    ],
    ids=lambda packed: str(packed)[:12],
)
def test_unpack_returns_none_for_anything_else(packed: object) -> None:
    assert unpack(packed, 40) is None


def test_any_difference_changes_the_cache_salt() -> None:
    vector = np.ones(40, dtype=np.float32)
    nearly = vector.copy()
    nearly[39] = np.nextafter(nearly[39], 2)
    salts = {
        cache_salt(pack(vector)),
        cache_salt(pack(nearly)),
        cache_salt(pack(vector), ""),
        cache_salt(pack(vector), "a", "b"),
        cache_salt(pack(vector), "ab", ""),
        cache_salt(pack(vector), "", "ab"),
    }
    assert len(salts) == 6
    assert cache_salt(pack(vector)) == cache_salt(pack(vector.copy()))
