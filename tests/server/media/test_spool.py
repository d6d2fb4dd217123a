import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from server.errors import TooLarge, Unavailable
from server.media.spool import Spool


def test_content_has_no_name(tmp_path: Path) -> None:
    with Spool(tmp_path, 100) as spool:
        (path,) = tmp_path.iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        spool.write(b"abc")
        spool.write(b"def")
        content = spool.blob()
    assert not list(tmp_path.iterdir())
    assert (content.size, content.head()) == (6, b"abcdef")
    assert spool.sha256 == hashlib.sha256(b"abcdef").digest()


def test_saved_under_a_name(tmp_path: Path) -> None:
    with Spool(tmp_path, 100) as spool:
        spool.write(b"abc")
        spool.save(tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"abc"


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Spool(tmp_path, 5) as spool:
        spool.write(b"12345")
        with pytest.raises(TooLarge, match="larger than 5 bytes"):
            spool.write(b"6")
    assert not list(tmp_path.iterdir())
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with Spool(tmp_path, 5) as spool:
        monkeypatch.setattr("server.media.spool.os.write", full)
        with pytest.raises(Unavailable) as caught:
            spool.write(b"1")
    assert caught.value.code == "disk_full"
    with pytest.raises(Unavailable):
        Spool(tmp_path / "missing", 5)
