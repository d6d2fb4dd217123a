"""`bindserve embed` for folders: output files, resumed runs, and damaged input files."""

import asyncio
import io
import json
import shutil
import sys
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from cache_index.captions import Caption
from cache_index.errors import CacheError
from cache_index.shards import ShardWriter
from server.cli.bulk import run as bulk
from server.cli.bulk.inputs import count_and_fingerprint, is_bulk, items
from server.cli.bulk.output import check_output, write_output
from server.cli.bulk.place import BulkItem, Place
from server.encoding.decode.pool import DecodeTimeout
from server.encoding.windows import Window
from server.errors import BadRequest
from server.media.blob import DiskBlob
from server.settings import Settings
from tests.server.cli.test_embed import MEDIA, unit

VECTORS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Five rows in three shards: two windows of a sound, and three pictures."""
    folder = tmp_path / "shards"
    writer = ShardWriter.open(folder, rows_per_shard=2)
    windows = [{"modality": "audio", "start": float(k), "end": k + 2.0} for k in range(2)]
    rows = [(VECTORS[k], Caption(None, "a.wav", {**windows[k]})) for k in range(2)]
    writer.append_all(rows)
    for number in range(2, 5):
        caption = Caption("a cat", f"{number}.jpg", {"modality": "image"})
        writer.append(VECTORS[number], caption)
    writer.flush()
    return folder


def test_json_lines(shards: Path, tmp_path: Path) -> None:
    assert write_output(shards, tmp_path / "out.jsonl") == 5
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal([row.pop("embedding") for row in rows], VECTORS)
    assert rows[1] == {"file": "a.wav", "modality": "audio", "start": 1.0, "end": 3.0}
    assert rows[4] == {"file": "4.jpg", "caption": "a cat", "modality": "image"}


def test_an_array_and_the_captions_of_its_rows(shards: Path, tmp_path: Path) -> None:
    write_output(shards, tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy", allow_pickle=False), VECTORS)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a.wav", "a.wav", "2.jpg", "3.jpg", "4.jpg"]
    assert lines[1]["start"] == 1


def test_parquet(shards: Path, tmp_path: Path) -> None:
    write_output(shards, tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), VECTORS)
    assert table["file"].to_pylist()[2:] == ["2.jpg", "3.jpg", "4.jpg"]
    assert table["start"].to_pylist() == [0, 1, None, None, None]


def test_inputs_are_folders_lists_and_files(tmp_path: Path) -> None:
    folder, listed, single = tmp_path / "folder", tmp_path / "list.tsv", tmp_path / "z.png"
    folder.mkdir()
    for path in (folder / "b.jpg", folder / "a.jpg", single, tmp_path / "c.wav"):
        path.touch()
    listed.write_text("url\nc.wav\n")
    inputs = (single, folder, listed)
    assert [is_bulk([path]) for path in inputs] == [False, True, True]
    names = ["z.png", "a.jpg", "b.jpg", "c.wav"]
    assert [Path(str(item.place)).name for item in items(inputs)] == names
    assert [Path(str(item.caption.id)).name for item in items(inputs, 2)] == names[2:]
    assert count_and_fingerprint(inputs) != count_and_fingerprint(inputs[::-1])
    listed.write_text("url\nhttp://host/c.wav\n")
    with pytest.raises(CacheError, match="URL"):
        list(items((listed,)))


def test_the_captions_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    fingerprints = set()
    for caption in ("a cat", "a dog"):
        (tmp_path / "a.txt").write_text(caption)
        fingerprints.add(count_and_fingerprint([tmp_path]))
    assert len(fingerprints) == 2


def test_embeddings_depend_on_the_read_options_the_dtype_and_the_encoders(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """Regression: a run resumed with other values of these settings, so that its output file mixed
    embeddings of both.
    """
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(tiny_models["finetune"] / "config.json", model)
    settings = Settings(model=model)
    changes: list[dict[str, Any]] = [{}, {"channels": "mean"}, {"encode_dtype": "bfloat16"}]
    kinds = [bulk.embeddings_of(settings.model_copy(update=change)) for change in changes]
    config = json.loads((model / "config.json").read_text())
    for source in config["provenance"]["sources"]:
        source["sha256"] = "0" * 64
    (model / "config.json").write_text(json.dumps(config))
    kinds.append(bulk.embeddings_of(settings))
    assert len(set(map(str, kinds))) == 4


def test_what_the_output_needs_is_checked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: a missing package was reported only after all files had been embedded."""
    (tmp_path / "x.jpg").touch()
    (tmp_path / "x.jsonl").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name, message in (("x.npy", "x.jsonl: exists already"), ("x.parquet", "package pyarrow")):
        request = bulk.BulkRequest(Settings(model=tmp_path), (tmp_path,), tmp_path / name)
        with pytest.raises(CacheError, match=message):
            bulk.run(request)
    check_output(tmp_path / "y.npy")
    (tmp_path / "x.npy").touch()
    check_output(tmp_path / "x.npy")  # allowed: an earlier run wrote both files


def test_names_that_are_not_utf_8_are_reported(tmp_path: Path) -> None:
    # this stream raises an error for characters that it cannot encode, as standard output does
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    bar = SimpleNamespace(write=file.write)
    failures = bulk.Failures(tmp_path / "skipped.txt", 0, bar)  # type: ignore[arg-type]
    failures.add(0, BulkItem(Place(Path("\udcff.jpg")), Caption()), "not a picture")
    file.flush()
    assert "\\udcff.jpg" in (tmp_path / "skipped.txt").read_text()


def test_a_run_skips_bad_files_and_resumes(
    tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test stops the first run at the third file. The second run embeds only the files that the
    first run did not finish.
    """
    names = ("audio_a.wav", "img_a.jpg", "img_b.png")
    folder, out = tmp_path / "media", tmp_path / "out.jsonl"
    folder.mkdir()
    for name in names:
        shutil.copy(MEDIA / name, folder)
    (folder / "bad.jpg").write_text("not a picture")
    (folder / "cut.wav").write_bytes((MEDIA / "audio_a.wav").read_bytes()[:30])
    # With `encode_batch=1`, the command works on two files at a time.
    settings = Settings(
        model=tiny_models["finetune"], decode_workers=1, encode_threads=1, encode_batch=1
    )
    shard = write_tar(tmp_path / "x.tar", {"a.jpg": (MEDIA / "img_a.jpg").read_bytes()})
    table = write_table(tmp_path / "x.parquet", [(MEDIA / "img_b.png").read_bytes()])
    inputs = (folder, shard, table)
    request = bulk.BulkRequest(settings, inputs, out, windows=(2, 1))
    monkeypatch.setattr(bulk, "ROWS_PER_SHARD", 1)
    embed, embedded = bulk.BulkEmbedder.embed, []

    async def stopping(self: bulk.BulkEmbedder, item: Any) -> Any:
        embedded.append(str(item.place))
        if len(embedded) == 3:
            raise KeyboardInterrupt
        return await embed(self, item)

    monkeypatch.setattr(bulk.BulkEmbedder, "embed", stopping)
    with pytest.raises(KeyboardInterrupt):
        bulk.run(request)
    assert not out.exists()
    summary = bulk.run(request)
    assert (summary.files, summary.rows, summary.skipped) == (7, 9, 2)
    lines = bulk.skipped_list(out).read_text().splitlines()
    assert [Path(line.split("\t")[1].strip("'")).name for line in lines] == ["bad.jpg", "cut.wav"]
    assert embedded.count(str(folder / "audio_a.wav")) == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    files = ["audio_a.wav"] * 5 + [*names[1:], "a.jpg", "0"]
    assert [Path(row["file"]).name for row in rows] == files
    assert [row.get("start") for row in rows] == [0, 1, 2, 3, 4, None, None, None, None]
    for row, name in zip(rows[5:], 2 * names[1:], strict=True):
        np.testing.assert_allclose(row["embedding"], unit(name), atol=1e-5)
    assert not list(tmp_path.glob(".*"))


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_table(path: Path, values: list[Any], **columns: list[Any]) -> Path:
    parquet.write_table(pyarrow.table({"image": values, **columns}), path, row_group_size=2)
    return path


def test_the_files_of_a_tar_shard(tmp_path: Path) -> None:
    files = {
        "x/a.jpg": b"picture",
        "x/a.txt": b"a cat\n",
        "x/b.json": b'{"caption": "a dog"}',
        "x/b.left.wav": b"left",
        "x/b.right.wav": b"right",
        "x/.hidden.jpg": b"-",
        "c.png": b"",
    }
    shard = write_tar(tmp_path / "s.tar", files)
    read = list(items([shard]))
    names = ["x/a.jpg", "x/b.left.wav", "x/b.right.wav", "c.png"]
    assert [item.caption.id for item in read] == [f"{shard}/{name}" for name in names]
    assert [item.caption.caption for item in read] == ["a cat", "a dog", "a dog", None]
    assert [item.place.read(9) for item in read[:3]] == [b"picture", b"left", b"right"]
    assert read[1].place.head() == b"left"
    blob = read[2].place.blob(9)
    assert (blob.size, blob.head()) == (5, b"right")
    for item, max_bytes in ((read[0], 6), (read[3], 6)):  # a file that is too large, an empty file
        for bytes_of in (item.place.read, item.place.blob):
            with pytest.raises(BadRequest):
                bytes_of(max_bytes)
    assert list(items([shard], 2)) == read[2:]
    assert count_and_fingerprint([shard])[0] == 4


def test_a_shard_that_cannot_be_read_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    compressed = write_tar(tmp_path / "a.tar", {"a.jpg": b"x"}, "w:gz")
    damaged = write_tar(tmp_path / "b.tar", {"a.jpg": b"x" * 2000})
    damaged.write_bytes(damaged.read_bytes()[:700])
    for shard in (compressed, damaged):
        with pytest.raises(CacheError, match="tar"):
            count_and_fingerprint([shard])


def test_the_files_of_a_table(tmp_path: Path) -> None:
    values = [{"bytes": bytes([48 + k]), "path": "n.png" if k else None} for k in range(5)]
    table = write_table(tmp_path / "t.parquet", values, text=list("abcde"), key=[7, 7, 8, 9, 10])
    read = list(items([table]))
    assert [item.place.read(1) for item in read] == [b"0", b"1", b"2", b"3", b"4"]
    assert str(read[1].place) == f"{table}/1/n.png"
    assert [item.caption.id for item in read][1:3] == [f"{table}/7", f"{table}/8"]
    assert read[4].caption.caption == "e"
    for start in range(6):
        assert list(items([table, table], 5 + start)) == read[start:]
    assert count_and_fingerprint([table])[0] == 5
    with pytest.raises(BadRequest, match="empty"):
        next(items([write_table(tmp_path / "n.parquet", [None, b"x"])])).place.read(1)


def test_a_table_needs_one_column_of_media(tmp_path: Path) -> None:
    for columns in ({"other": [b"x"]}, {}):
        values = [b"x"] if columns else ["text"]
        table = write_table(tmp_path / "t.parquet", values, **columns)
        with pytest.raises(CacheError, match="one column"):
            count_and_fingerprint([table])
    (tmp_path / "t.parquet").write_bytes(b"no table")
    with pytest.raises(CacheError, match="not a readable"):
        count_and_fingerprint([tmp_path / "t.parquet"])


async def test_long_sounds_are_not_read_and_few_are_cut_at_a_time(tmp_path: Path) -> None:
    """Regression: the command read all files in work into memory, started a cutting process for
    each, and embedded the windows of a sound one after the other.
    """
    settings = Settings(model=tmp_path, window_files=2, encode_batch=8)
    request = bulk.BulkRequest(settings, (), tmp_path / "x.npy", "audio", windows=(2, 1))
    embedder = bulk.BulkEmbedder(request, SimpleNamespace(modalities=("audio",)))  # type: ignore[arg-type]
    cutting, most, embedding, peak = 0, 0, 0, 0

    async def cut(content: Any, *_: float) -> AsyncGenerator[Window, None]:
        nonlocal cutting, most
        assert isinstance(content, DiskBlob)
        cutting += 1
        most = max(most, cutting)
        for start in range(4):
            yield Window(start, start + 2, content)
        await asyncio.sleep(0.005)
        cutting -= 1

    async def unit(*_: Any) -> Any:
        nonlocal embedding, peak
        embedding += 1
        peak = max(peak, embedding)
        await asyncio.sleep(0.001)
        embedding -= 1
        return VECTORS[0]

    embedder._cutter.cut = cut  # type: ignore[method-assign,assignment]
    embedder._unit = unit  # type: ignore[method-assign]
    path = tmp_path / "a.wav"
    path.write_bytes(b"sound")
    results = await asyncio.gather(
        *(embedder.embed(BulkItem(Place(path), Caption())) for _ in range(5))
    )
    for rows in results:
        assert [caption.fields["start"] for _, caption in rows] == [0, 1, 2, 3]
    assert await embedder.embed(BulkItem(Place(tmp_path), Caption())) == "Is a directory"
    assert most == 2
    # two sounds at a time: a peak above 2 means that one sound had several windows in work
    assert peak > 2


async def test_a_file_whose_decoding_timed_out_once_is_decoded_again(tmp_path: Path) -> None:
    """Regression: while the command was stopped (Ctrl-Z), the limit of elapsed time passed, and
    the files that were being decoded were skipped.
    """
    request = bulk.BulkRequest(Settings(model=tmp_path), (), tmp_path / "x.npy", "image")
    timeouts = [1]

    async def decode(*_: Any) -> Any:
        if timeouts[0]:
            timeouts[0] -= 1
            raise DecodeTimeout("decoding took more than 120 seconds")
        return SimpleNamespace(modality="image", tensor=None)

    async def encode(*_: Any) -> Any:
        return np.append(VECTORS[0], 1)

    parts = SimpleNamespace(
        modalities=("vision",),
        decoder=SimpleNamespace(decode=decode),
        batcher=SimpleNamespace(encode=encode),
    )
    embedder = bulk.BulkEmbedder(request, parts)  # type: ignore[arg-type]
    path = tmp_path / "a.jpg"
    path.write_bytes(b"picture")
    item = BulkItem(Place(path), Caption())
    ((vector, _),) = await embedder.embed(item)
    np.testing.assert_array_equal(vector, VECTORS[0])
    timeouts[0] = 2  # a file that times out again is skipped
    assert await embedder.embed(item) == "decoding took more than 120 seconds"
