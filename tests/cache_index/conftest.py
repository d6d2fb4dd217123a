"""Fixtures: a small cache, and two recorded FAISS indexes imported as caches."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cache_index.build import build_from_features, import_index
from cache_index.enhance import Array
from cache_index.index import CacheIndex
from tests.cache_index.services import build

FIXTURES = Path(__file__).parents[1] / "fixtures"
COUNT, DIMENSION = 400, 24
ENCODER = {"sha256": "e" * 64, "name": "tiny"}


@pytest.fixture(scope="session")
def features() -> Array:
    """The test features: unit vectors of shape (400, 24) in 8 clusters."""
    rng = np.random.default_rng(7)
    centers = rng.standard_normal((8, DIMENSION))
    rows = centers[rng.integers(8, size=COUNT)] + 0.7 * rng.standard_normal((COUNT, DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def queries(features: Array) -> Array:
    """The test queries, of shape (6, 24). None of them has unit length."""
    rng = np.random.default_rng(8)
    rows = features[:6] + 0.2 * rng.standard_normal((6, DIMENSION))
    return (rows * rng.uniform(0.3, 2, (6, 1))).astype(np.float32)


@pytest.fixture(scope="session")
def sources(features: Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features.npy and captions.jsonl."""
    folder = tmp_path_factory.mktemp("sources")
    np.save(folder / "features.npy", features)
    lines = [f'{{"caption": "picture {i} ☔", "id": "id-{i}"}}' for i in range(COUNT)]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def folder(sources: Path, tmp_path: Path) -> Path:
    """A cache folder that the test may damage."""
    build_from_features(
        sources / "features.npy",
        tmp_path / "cache",
        captions=sources / "captions.jsonl",
        encoder=ENCODER,
        progress=False,
    )
    return tmp_path / "cache"


@pytest.fixture
def index(folder: Path) -> Iterator[CacheIndex]:
    opened = CacheIndex.open(folder)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CacheIndex]:
    """Return a function that imports the FAISS index knn.index or knn-ivf.index as a cache."""
    opened: dict[str, CacheIndex] = {}

    def get(name: str) -> CacheIndex:
        if name not in opened:
            out = tmp_path_factory.mktemp("released") / name
            import_index(FIXTURES / "tiny" / name, out, progress=False)
            opened[name] = CacheIndex.open(out)
        return opened[name]

    return get


@pytest.fixture(scope="session")
def whole(features: Array, tmp_path_factory: pytest.TempPathFactory) -> CacheIndex:
    """A cache of all test features."""
    return CacheIndex.open(build(features, tmp_path_factory.mktemp("whole") / "w"))
