"""A build writes the right files, rejects invalid inputs, and leaves no files after an error."""

import json
from pathlib import Path

import faiss
import numpy as np
import pytest

from cache_index import build
from cache_index.build import build_from_features, import_index
from cache_index.captions import Caption, read_captions
from cache_index.enhance import Array, CacheParams
from cache_index.errors import CacheError
from cache_index.index import CacheIndex

FIXTURES = Path(__file__).parents[1] / "fixtures"
COUNT, DIMENSION = 400, 24  # shape of the features in conftest.py


def make(sources: Path, out: Path, **options: object) -> CacheIndex:
    build_from_features(sources / "features.npy", out, progress=False, **options)  # type: ignore[arg-type]
    return CacheIndex.open(out)


def test_the_manifest_describes_the_folder(sources: Path, tmp_path: Path) -> None:
    defaults = CacheParams(top_k=3, form="paper")
    index = make(sources, tmp_path / "c", encoder={"sha256": "x"}, defaults=defaults)
    written = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert set(written["files"]) == {"index.faiss", "vectors.npy"}
    assert (index.manifest.count, index.manifest.dimension) == (COUNT, DIMENSION)
    assert index.manifest.defaults == defaults
    assert index.manifest.encoder == {"sha256": "x"}
    assert len(index) == COUNT


@pytest.mark.parametrize("scale", [1, 5])
def test_rows_are_brought_to_unit_length(
    scale: float, features: Array, tmp_path: Path, queries: Array
) -> None:
    np.save(tmp_path / "f.npy", scale * features)
    build_from_features(tmp_path / "f.npy", tmp_path / "unit", progress=False)
    build_from_features(tmp_path / "f.npy", tmp_path / "raw", normalized=False, progress=False)
    unit, raw = CacheIndex.open(tmp_path / "unit"), CacheIndex.open(tmp_path / "raw")
    ids = np.arange(COUNT)
    np.testing.assert_allclose(unit.gather(ids), features, atol=1e-6)
    np.testing.assert_allclose(raw.gather(ids), scale * features, atol=1e-6)
    assert np.array_equal(unit.search(queries, 5).ids, raw.search(queries, 5).ids)


def test_float16_vectors_are_those_that_are_ranked(
    sources: Path, tmp_path: Path, queries: Array
) -> None:
    index = make(sources, tmp_path / "c", dtype="float16")
    neighbors = index.search(queries, 8)
    rows = index.gather(neighbors.ids)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(
        neighbors.similarity, np.einsum("bd,bkd->bk", queries, rows), atol=1e-5
    )


def test_ivf_by_request(sources: Path, tmp_path: Path, queries: Array) -> None:
    index = make(sources, tmp_path / "c", kind="IVF4,Flat")
    flat = make(sources, tmp_path / "f")
    assert index.manifest.search.nprobe in (1, 2, 3, 4)
    assert index.manifest.recall is not None
    assert index.manifest.recall.value >= 0.98
    assert index.manifest.recall.queries == COUNT // 2
    same = index.search(queries, 1).ids == flat.search(queries, 1).ids
    assert same.mean() > 0.8


def test_blocks_smaller_than_the_file(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(sources, tmp_path / "whole")
    monkeypatch.setattr(build, "BLOCK_ROWS", 37)
    monkeypatch.setattr("cache_index.features.BLOCK_ROWS", 41)
    blocks = make(sources, tmp_path / "blocks")
    assert whole.manifest.files == blocks.manifest.files


def test_an_imported_index_is_kept_byte_for_byte(tmp_path: Path) -> None:
    source = FIXTURES / "tiny" / "knn-ivf.index"
    import_index(source, tmp_path / "c", progress=False)
    assert (tmp_path / "c" / "index.faiss").read_bytes() == source.read_bytes()
    index, held = CacheIndex.open(tmp_path / "c"), faiss.read_index(str(source))
    held.make_direct_map()
    assert np.array_equal(index.gather(np.arange(2000)), held.reconstruct_n(0, 2000))


def test_import_refuses_ids_that_are_no_row_numbers(tmp_path: Path, features: Array) -> None:
    index = faiss.index_factory(DIMENSION, "IVF4,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(features)
    index.add_with_ids(features, np.arange(COUNT) * 10)
    faiss.write_index(index, str(tmp_path / "odd.index"))
    with pytest.raises(CacheError, match=r"odd.index: its ids are not the row numbers 0 to N-1"):
        import_index(tmp_path / "odd.index", tmp_path / "c", progress=False)
    assert not (tmp_path / "c").exists()


def test_captions_and_ids(index: CacheIndex) -> None:
    assert index.captions[0] == Caption("picture 0 ☔", "id-0")
    assert index.captions[COUNT - 1] == Caption(f"picture {COUNT - 1} ☔", f"id-{COUNT - 1}")


def test_captions_from_a_text_file(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("\n".join(f'say "{i}"' for i in range(COUNT)))
    index = make(sources, tmp_path / "c", captions=tmp_path / "c.txt")
    assert [index.captions[i].caption for i in (0, 7)] == ['say "0"', 'say "7"']
    assert index.captions[0].id is None
    assert make(sources, tmp_path / "none").captions[5] == Caption()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\n" * (COUNT - 1), f"{COUNT - 1} captions for {COUNT} features"),
        ("a\n" * (COUNT + 1), f"more than {COUNT} captions"),
        ("a" * 70_000, "line 1 is longer"),
    ],
)
def test_captions_that_do_not_fit(sources: Path, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(CacheError, match=told):
        make(sources, tmp_path / "c", captions=tmp_path / "c.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["c.txt"]


@pytest.mark.parametrize("line", ["{", '{"caption": 3}', "[1]", "[" * 60_000, '"\xff'])
def test_captions_that_are_no_json(sources: Path, tmp_path: Path, line: str) -> None:
    lines = '"fine"\n' + line + "\n" + '"fine"\n' * (COUNT - 2)
    (tmp_path / "c.jsonl").write_bytes(lines.encode("latin-1"))
    with pytest.raises(CacheError, match=r"c.jsonl: line 2"):
        make(sources, tmp_path / "c", captions=tmp_path / "c.jsonl")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 8), np.float32),
        np.zeros(8, np.float32),
        np.zeros((3, 8), np.int64),
        np.array([{"pickled": 1}]),
    ],
)
def test_features_of_a_wrong_form(tmp_path: Path, array: Array) -> None:
    np.save(tmp_path / "f.npy", array, allow_pickle=True)
    with pytest.raises(CacheError, match=r"f.npy"):
        build_from_features(tmp_path / "f.npy", tmp_path / "c", progress=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0])
def test_a_bad_row_is_named(tmp_path: Path, features: Array, bad: float) -> None:
    rows = features.copy()
    rows[301] = bad
    np.save(tmp_path / "f.npy", rows)
    with pytest.raises(CacheError, match="row 301"):
        build_from_features(tmp_path / "f.npy", tmp_path / "c", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["f.npy"]


def test_truncated_features(tmp_path: Path, sources: Path) -> None:
    (tmp_path / "f.npy").write_bytes((sources / "features.npy").read_bytes()[:-5])
    with pytest.raises(CacheError, match=r"f.npy"):
        build_from_features(tmp_path / "f.npy", tmp_path / "c", progress=False)


def test_existing_folders(sources: Path, tmp_path: Path, queries: Array) -> None:
    opened = make(sources, tmp_path / "c")
    with pytest.raises(CacheError, match="exists already"):
        make(sources, tmp_path / "c")
    make(sources, tmp_path / "c", overwrite=True, dtype="float16")
    # A cache that was opened before this build still reads the overwritten files.
    assert opened.search(queries, 3).ids.shape == (6, 3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(CacheError, match="not a cache folder"):
        make(sources, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"c", "mine"}


def test_unknown_kind(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="'HSNW' is no supported index kind"):
        make(sources, tmp_path / "c", kind="HSNW")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_caption_lines_have_finite_numbers(number: str, tmp_path: Path) -> None:
    """Regression: a search that returned a row with such a number failed, because JSON cannot
    contain the number.
    """
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"caption": "a", "start": 1.5}}\n{{"start": {number}}}\n')
    captions = read_captions(path)
    assert next(captions) == Caption("a", None, {"start": 1.5})
    with pytest.raises(CacheError, match="line 2 is not JSON, or contains a number that is not"):
        next(captions)
