from pathlib import Path

import pytest

from server.auth import KeyFileError, read_keys


def test_keys_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# ours\nfirst\n\n  second  \r\n")
    assert read_keys(tmp_path / "keys") == ["first", "second"]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_a_file_without_keys_does_not_open_the_server(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(KeyFileError, match="holds no API key"):
        read_keys(tmp_path / "keys")
