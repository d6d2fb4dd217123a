from pathlib import Path

import pytest

from server.api.middleware import auth
from server.api.middleware.auth import KeyFileError, Keys, key_digest, read_keys


def test_keys_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# ours\nfirst\n\n  second  \r\n")
    assert read_keys(tmp_path / "keys") == ["first", "second"]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_a_file_without_keys_does_not_open_the_server(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(KeyFileError, match="contains no API key"):
        read_keys(tmp_path / "keys")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(auth, "RELOAD_S", 0)
    (tmp_path / "keys").write_text("first\n")
    return tmp_path / "keys"


def test_keys_are_added_and_removed_without_a_restart(file: Path) -> None:
    keys = Keys(["fixed"], file)
    assert keys.find("first") == key_digest("first")
    file.write_text("second\nthird\n")
    valid = [key for key in ("first", "second", "third", "fixed", "") if keys.find(key)]
    assert valid == ["second", "third", "fixed"]


@pytest.mark.parametrize("how", ["emptied", "deleted", "binary"])
def test_the_previous_keys_stay_valid_when_the_file_is_damaged(file: Path, how: str) -> None:
    keys = Keys((), file)
    match how:
        case "emptied":
            file.write_text("")
        case "deleted":
            file.unlink()
        case "binary":
            file.write_bytes(b"\xff\xfe")
    assert keys.required
    assert keys.find("first")
    assert not keys.find("")
    file.write_text("later\n\n")
    assert keys.find("later")
    assert not keys.find("first")


def test_the_file_is_not_read_for_every_request(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "RELOAD_S", 100)
    keys = Keys((), file)
    file.write_text("second\n")
    assert keys.find("first")


def test_without_keys_requests_need_none() -> None:
    assert not Keys().required
    assert Keys(["a"]).required
