"""Open and search a cache folder; reject damaged folders and folders of other programs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from cache_index.enhance import Array, CacheParams
from cache_index.errors import CacheError, QueryError
from cache_index.index import CacheIndex
from cache_index.manifest import describe_file

FIXTURES = Path(__file__).parents[1] / "fixtures"
COUNT, DIMENSION = 400, 24  # shape of the features in conftest.py
FILES = ("index.faiss", "vectors.npy", "captions.jsonl", "captions.offsets.npy")


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def accept(folder: Path, name: str) -> None:
    """Write the size and sha256 of a changed file into the manifest, as an attacker could do."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit(folder, files=files | {name: describe_file(folder / name).model_dump()})


def test_search_is_exact_for_flat(index: CacheIndex, features: Array, queries: Array) -> None:
    neighbors = index.search(queries, 9)
    scores = queries @ features.T
    expected = np.argsort(-scores, axis=1)[:, :9]
    assert np.array_equal(neighbors.ids, expected)
    np.testing.assert_allclose(
        neighbors.similarity, np.take_along_axis(scores, expected, 1), atol=1e-5
    )


def test_gather_is_indexing(index: CacheIndex, features: Array) -> None:
    ids = np.array([[3, 399, 3], [0, 17, 200]])
    np.testing.assert_allclose(index.gather(ids), features[ids], atol=1e-6)


def test_batch_equals_single(index: CacheIndex, queries: Array) -> None:
    params = [CacheParams(top_k=k, weight=w) for k, w in zip((1, 10, 3, 50, 7, 2), (0, 0.5) * 3)]  # noqa: B905
    together = index.enhance(queries, params)
    for row, p in enumerate(params):
        alone = index.enhance(queries[row : row + 1], [p])
        np.testing.assert_allclose(together.vectors[row], alone.vectors[0], atol=1e-6)
        assert np.array_equal(together.neighbors.ids[row, : p.top_k], alone.neighbors.ids[0])


def test_more_asked_than_there_is(index: CacheIndex, queries: Array) -> None:
    enhanced = index.enhance(queries, [CacheParams(top_k=COUNT + 9)] * 6)
    assert (enhanced.neighbors.hit.sum(axis=1) == COUNT).all()
    assert (enhanced.neighbors.similarity[:, COUNT:] == 0).all()
    full = index.enhance(queries, [CacheParams(top_k=COUNT)] * 6)
    np.testing.assert_allclose(enhanced.vectors, full.vectors, atol=1e-6)


def test_ivf_with_fewer_hits_than_k(released: Callable[[str], CacheIndex]) -> None:
    """The visited cells contain fewer than k rows, so that FAISS fills the result with the id
    -1.
    """
    index = released("knn-ivf.index")
    query = index.gather(np.array([5]))
    enhanced = index.enhance(query, [CacheParams(top_k=1000, inverse_temperature=1)])
    hits = int(enhanced.neighbors.hit.sum())
    assert 0 < hits < 1000
    fewer = index.enhance(query, [CacheParams(top_k=hits, inverse_temperature=1)])
    np.testing.assert_allclose(enhanced.vectors, fewer.vectors, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, DIMENSION - 1), (2, DIMENSION + 1), (DIMENSION,), (1, 1, 1)])
def test_query_of_another_shape(index: CacheIndex, shape: tuple[int, ...]) -> None:
    with pytest.raises(QueryError, match=r"shape \(B, 24\)"):
        index.enhance(np.ones(shape, dtype=np.float32), [CacheParams()] * 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_query_that_is_not_finite(index: CacheIndex, queries: Array, bad: float) -> None:
    queries = queries.copy()
    queries[3, 2] = bad
    with pytest.raises(QueryError, match="NaN"):
        index.enhance(queries, [CacheParams()] * 6)


def test_provenance(folder: Path) -> None:
    CacheIndex.open(folder, expect_encoder={"sha256": "e" * 64}).close()
    with pytest.raises(CacheError, match="another encoder: sha256"):
        CacheIndex.open(folder, expect_encoder={"name": "tiny"} | {"sha256": "f" * 64})
    message = r"does not say which encoder its features come from \(no encoder\.config\)"
    with pytest.raises(CacheError, match=message):
        CacheIndex.open(folder, expect_encoder={"config": "x"})


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"manifest.json.*bindserve cache build"):
        CacheIndex.open(tmp_path / "nothing")


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_byte_is_found(folder: Path, name: str) -> None:
    path = folder / name
    intact = path.read_bytes()
    for position in np.linspace(0, len(intact) - 1, 60).astype(int):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << int(position % 8)
        path.write_bytes(damaged)
        with pytest.raises(CacheError, match=name):
            CacheIndex.open(folder)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("sixteenths", range(16))
def test_truncated(folder: Path, name: str, sixteenths: int) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size * sixteenths // 16])
    with pytest.raises(CacheError, match=name):
        CacheIndex.open(folder, verify=False)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CacheError, match=name):
        CacheIndex.open(folder, verify=False)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": 2}, "format"),
        ({"count": 0}, "count"),
        ({"metric": "l2"}, "metric"),
        ({"colour": "red"}, "colour"),
        ({"vector_dtype": "object"}, "vector_dtype"),
        ({"files": {}}, "index.faiss"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}}, "passwd"),
        ({"search": {"verbose": 3}}, "search.verbose"),
        ({"search": {"nprobe": 0}}, "search.nprobe"),
        ({"defaults": {"top_k": 0}}, "defaults"),
    ],
)
def test_manifest_with_a_wrong_entry(folder: Path, changes: dict[str, object], named: str) -> None:
    edit(folder, **changes)
    with pytest.raises(CacheError, match=named):
        CacheIndex.open(folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"count": COUNT - 1}, "index.faiss"),
        ({"dimension": DIMENSION + 1}, "index.faiss"),
        ({"vector_dtype": "float16"}, "vectors.npy"),
        ({"search": {"nprobe": 4}}, "nprobe is set"),
    ],
)
def test_manifest_that_disagrees_with_its_files(
    folder: Path, changes: dict[str, object], named: str
) -> None:
    edit(folder, **changes)
    with pytest.raises(CacheError, match=named):
        CacheIndex.open(folder)


def test_index_of_another_metric(folder: Path, features: Array) -> None:
    index = faiss.IndexFlat(DIMENSION, faiss.METRIC_L1)
    index.add(features)
    faiss.write_index(index, str(folder / "index.faiss"))
    accept(folder, "index.faiss")
    with pytest.raises(CacheError, match=r"index.faiss.*(metric|supported kind)"):
        CacheIndex.open(folder)


@pytest.mark.parametrize("content", [b"", b"IxFI", b"\x80\x04K\x01.", b"IHNf" + bytes(500)])
def test_foreign_index_file(folder: Path, content: bytes) -> None:
    (folder / "index.faiss").write_bytes(content)
    accept(folder, "index.faiss")
    with pytest.raises(CacheError, match=r"index.faiss"):
        CacheIndex.open(folder)


def test_pickled_vectors_are_not_loaded(folder: Path) -> None:
    np.save(folder / "vectors.npy", np.array([{"an": "object"}]), allow_pickle=True)
    accept(folder, "vectors.npy")
    with pytest.raises(CacheError, match=r"vectors.npy"):
        CacheIndex.open(folder)


FLIPS = """
import sys
import numpy as np
from pathlib import Path
from cache_index.errors import CacheError
from cache_index.reader import read_index
source, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
refused = 0
header = list(range(120))
tail = list(np.random.default_rng(0).integers(120, len(source), 300))
for position in header + tail:
    for bit in (0, 7):
        damaged = bytearray(source)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            read_index(path, mapped=bit == 7)
        except CacheError as error:
            assert str(path) in str(error)
            refused += 1
print(refused)
"""


@pytest.mark.parametrize("name", ["knn.index", "knn-ivf.index"])
def test_damaged_index_without_a_manifest(name: str, tmp_path: Path) -> None:
    """The reader does not crash on damaged files. A child process reads them, so that a crash would
    not end the tests.
    """
    child = subprocess.run(
        [sys.executable, "-c", FLIPS, FIXTURES / "tiny" / name, tmp_path / name],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 20
