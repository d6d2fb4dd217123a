"""Stored files: owners, quotas, expiry, and the files on disk."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest

from server.errors import BadRequest, NotFound, RequestError, TooLarge, Unavailable
from server.media import files
from server.media.files import FileLimits, FileRecord, FileStore, sweep_regularly
from server.media.spool import Spool

LIMITS = FileLimits(owner_files=3, owner_bytes=100, total_bytes=150, max_age_s=1000)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path, LIMITS)


def add(
    store: FileStore, data: bytes, owner: str = "aa", lifetime_s: int | None = None
) -> FileRecord:
    with Spool(store.incoming, 1000) as spool:
        spool.write(data)
        return store.of(owner).add(spool, filename="f.png", purpose="vision", lifetime_s=lifetime_s)


def on_disk(store: FileStore) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file() and path.name != "quota"]


async def test_kept_until_deleted(store: FileStore) -> None:
    record = add(store, b"data")
    assert store.of("aa").record(record.id) == record
    upload = store.of("aa").get(record.id)
    assert (upload.filename, upload.content.head()) == ("f.png", b"data")
    assert (await upload.content.digest()).hex() == record.sha256
    assert {path.stat().st_mode & 0o777 for path in on_disk(store)} == {0o600}
    assert store.folder.joinpath("owners", "aa").stat().st_mode & 0o777 == 0o700
    store.of("aa").delete(record.id)
    # A blob that was opened before can still be read after the file was deleted.
    assert upload.content.head() == b"data"
    assert not on_disk(store)
    with pytest.raises(NotFound):
        store.of("aa").get(record.id)


def test_ids_are_not_guessed(store: FileStore) -> None:
    ids = {add(store, b"").id, add(store, b"").id}
    assert len(ids) == 2
    assert {len(each) for each in ids} == {len("file-") + 32}


@pytest.mark.parametrize("owner", ["bb", ""])
def test_another_owner_sees_nothing(store: FileStore, owner: str) -> None:
    record = add(store, b"data")
    other = store.of(owner)
    for ask in (other.record, other.get, other.delete):
        with pytest.raises(NotFound, match="no such file"):
            ask(record.id)
    assert other.all() == []
    assert store.of("aa").all() == [record]


@pytest.mark.parametrize(
    "name", ["", "..", "../quota", "file-", "file-/../../quota", "file-" + "0" * 32, "\0"]
)
def test_an_id_is_no_path(store: FileStore, name: str) -> None:
    add(store, b"data")
    with pytest.raises(NotFound):
        store.of("aa").get(name)


def test_quotas(store: FileStore) -> None:
    add(store, bytes(60))
    with pytest.raises(TooLarge, match="more than 100 bytes") as caught:
        add(store, bytes(41))
    assert caught.value.code == "quota_exceeded"
    add(store, bytes(60), "bb")
    with pytest.raises(Unavailable):  # The files of all owners together are too large.
        add(store, bytes(40))
    add(store, b"")
    add(store, b"")
    with pytest.raises(BadRequest, match="more than 3 files"):
        add(store, b"")
    assert store.used_bytes() == 120
    assert len(on_disk(store)) == 2 * 4  # The rejected uploads have no files.


def test_uploads_at_once_do_not_share_the_rest_of_a_quota(store: FileStore) -> None:
    def attempt(_: int) -> bool:
        try:
            return bool(add(store, bytes(40)))
        except RequestError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 2


async def test_expiry(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = add(store, b"1", lifetime_s=10), add(store, b"2")
    assert (short.expires_at - short.created_at, long.expires_at - long.created_at) == (10, 1000)
    monkeypatch.setattr("server.media.files.time.time", lambda: short.created_at + 11)
    with pytest.raises(NotFound):
        store.of("aa").get(short.id)
    assert len(on_disk(store)) == 2
    monkeypatch.setattr("server.media.files.time.time", lambda: short.created_at + 1001)
    monkeypatch.setattr(files, "SWEEP_S", 0.001)
    sweeper = asyncio.ensure_future(sweep_regularly(store))
    async with asyncio.timeout(10):
        while on_disk(store):
            await asyncio.sleep(0.01)
    sweeper.cancel()


def test_the_newest_comes_first(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(10**9, 10**9 + 3))
    monkeypatch.setattr("server.media.files.time.time", lambda: next(times))
    monkeypatch.setattr(store, "limits", replace(LIMITS, max_age_s=10**9))
    with monkeypatch.context() as still:
        first = [add_at(store, still, 10**9 + i) for i in range(3)]
    monkeypatch.setattr("server.media.files.time.time", lambda: 10**9)
    assert [record.id for record in store.of("aa").all()] == [r.id for r in reversed(first)]


def add_at(store: FileStore, patch: pytest.MonkeyPatch, now: int) -> FileRecord:
    patch.setattr("server.media.files.time.time", lambda: now)
    return add(store, b"x")


def test_an_interrupted_record_does_not_block_the_next_attempt(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that was killed while it stored its results stores them when it resumes."""
    path, file_id = tmp_path / "results", f"file-{'0' * 32}"
    path.write_bytes(b"results")

    def adopt() -> None:
        store.of("aa").adopt(
            path, file_id, filename="r.jsonl", purpose="batch_output", lifetime_s=None
        )

    def killed(_: object, file: TextIO) -> None:
        file.write('{"id": ')
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr("server.media.files.json.dump", killed)
        with pytest.raises(KeyboardInterrupt):
            adopt()
    assert not store.of("aa").all()
    adopt()
    assert store.of("aa").get(file_id).content.head() == b"results"
    store.of("aa").delete(file_id)
    assert on_disk(store) == [path]


def test_a_full_disk_leaves_nothing(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("server.media.files.OwnedFiles._write", full)
    with pytest.raises(Unavailable) as caught:
        add(store, b"x")
    assert caught.value.code == "disk_full"
    assert not on_disk(store)
