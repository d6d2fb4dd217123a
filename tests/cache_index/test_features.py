"""Features: all file formats give the same rows, and each row has its own caption."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cache_index import features as module
from cache_index.build import build_from_features
from cache_index.captions import Caption
from cache_index.enhance import Array
from cache_index.errors import CacheError
from cache_index.features import draw, open_features
from cache_index.index import CacheIndex
from cache_index.shards import ShardWriter


def all_rows(path: Path) -> Array:
    return np.concatenate(list(open_features(path).blocks()))


@pytest.fixture
def shards(tmp_path: Path, features: Array) -> Path:
    """Three shards of 150, 150 and 100 rows. The second shard is a safetensors file in float16."""
    folder = tmp_path / "shards"
    folder.mkdir()
    np.save(folder / "a.npy", features[:150])
    save_file({"embedding": features[150:300].astype(np.float16)}, folder / "b.safetensors")
    np.save(folder / "c.npy", features[300:].astype(np.float64))
    return folder


def caption(shards: Path, name: str, rows: range) -> None:
    (shards / name).write_text("".join(f'"row {i}"\n' for i in rows))


def test_rows_are_drawn_from_all_shards(shards: Path, features: Array) -> None:
    drawn = draw(open_features(shards), 60, seed=3)
    rows = np.argmax(drawn @ features.T, axis=1)
    assert np.allclose(drawn, features[rows], atol=1e-3)
    assert len(set(rows)) == 60
    assert set(np.digitize(rows, [150, 300])) == {0, 1, 2}
    assert list(rows) != sorted(rows)
    more = draw(open_features(shards), 1000, seed=3)
    assert more.shape == (400, features.shape[1])
    assert np.array_equal(more[:60], drawn)


def test_a_folder_of_shards(shards: Path, features: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 64)
    opened = open_features(shards)
    assert (opened.count, opened.dimension) == features.shape
    assert max(len(block) for block in opened.blocks()) == 64
    np.testing.assert_allclose(all_rows(shards), features, atol=1e-3)
    assert np.array_equal(all_rows(shards)[:150], features[:150])


def test_captions_beside_the_shards(shards: Path, tmp_path: Path) -> None:
    for name, rows in {"a": range(150), "b": range(150, 300), "c": range(300, 400)}.items():
        caption(shards, f"{name}.jsonl", rows)
    build_from_features(shards, tmp_path / "c", progress=False)
    index = CacheIndex.open(tmp_path / "c")
    assert [index.captions[i].caption for i in (0, 151, 399)] == ["row 0", "row 151", "row 399"]


def test_a_shard_without_its_captions(shards: Path, tmp_path: Path) -> None:
    caption(shards, "a.jsonl", range(150))
    with pytest.raises(CacheError, match=r"b.safetensors: has no captions"):
        build_from_features(shards, tmp_path / "c", progress=False)


def test_a_shard_with_a_caption_too_few(shards: Path, tmp_path: Path) -> None:
    """The total number of captions is right, but one shard of 150 rows has 149 captions, and
    another has 151.
    """
    for name, rows in {"a": range(149), "b": range(149, 300), "c": range(300, 400)}.items():
        caption(shards, f"{name}.jsonl", rows)
    with pytest.raises(CacheError, match=r"a.npy: 149 captions beside it for 150 features"):
        build_from_features(shards, tmp_path / "c", progress=False)


def test_shards_of_other_widths(shards: Path) -> None:
    np.save(shards / "d.npy", np.ones((2, 23), np.float32))
    with pytest.raises(CacheError, match=r"d.npy: rows of 23 numbers, a.npy has 24"):
        open_features(shards)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"no \.npy or \.safetensors"):
        open_features(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"a": np.ones((2, 3), np.int32)}, "must be one of"),
        ({"a": np.ones(3, np.float32)}, "shape"),
        ({"a": np.ones((1, 3), np.float32), "b": np.ones((1, 3), np.float32)}, "2 tensors"),
    ],
)
def test_wrong_tensors(tmp_path: Path, tensors: dict[str, Array], told: str) -> None:
    save_file(tensors, tmp_path / "f.safetensors")
    with pytest.raises(CacheError, match=rf"f.safetensors: .*{told}"):
        open_features(tmp_path / "f.safetensors")


@pytest.mark.parametrize("name", ["f.safetensors", "f.npy", "f.xyz"])
def test_foreign_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff" * 99)
    with pytest.raises(CacheError, match=name):
        open_features(tmp_path / name)


def items(writer: ShardWriter, features: Array, until: int) -> None:
    """Append features as an encoding run does. Every tenth file cannot be decoded."""
    for i in range(writer.consumed, until):
        if i % 10 == 9:
            writer.skip()
        else:
            writer.append(features[i], Caption(f"file {i}"))


def test_a_killed_encoding_goes_on(tmp_path: Path, features: Array) -> None:
    folder = tmp_path / "encoded"
    # The writer is not closed, as in a killed run, so that its last, incomplete shard is not
    # written.
    items(ShardWriter.open(folder, rows_per_shard=32), features, 133)
    assert open_features(folder).count == 96
    (folder / "00003.npy").write_bytes(b"half a shard that progress.json does not count")
    writer = ShardWriter.open(folder, rows_per_shard=32)
    assert writer.consumed == 106
    items(writer, features, 400)
    writer.flush()
    kept = [i for i in range(400) if i % 10 != 9]
    assert np.array_equal(all_rows(folder), features[kept])
    lines = open_features(folder).captions()
    assert lines is not None
    assert [line.caption for line in lines] == [f"file {i}" for i in kept]


def test_a_run_that_is_killed_after_its_first_shard_resumes(tmp_path: Path) -> None:
    """Regression: progress.json did not exist until the first shard was complete. A run that was
    killed between the two files could not be resumed.
    """
    assert ShardWriter.open(tmp_path / "e").consumed == 0
    (tmp_path / "e" / "00000.npy").write_bytes(b"a shard that progress.json does not count")
    assert ShardWriter.open(tmp_path / "e").consumed == 0


def test_an_encoding_that_ends_with_failures_is_complete(tmp_path: Path, features: Array) -> None:
    writer = ShardWriter.open(tmp_path / "e")
    writer.append(features[0], Caption())
    writer.skip()
    writer.flush()
    assert ShardWriter.open(tmp_path / "e").consumed == 2


def test_a_folder_that_is_not_the_writers(shards: Path) -> None:
    with pytest.raises(CacheError, match=r"no progress.json"):
        ShardWriter.open(shards)
    (shards / "progress.json").write_text('{"shards": 1}')
    with pytest.raises(CacheError, match="unreadable"):
        ShardWriter.open(shards)
