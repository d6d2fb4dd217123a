"""Parsing of file sizes with units."""

import pytest
import typer

from server.cli.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5_000_000_000),
        ("500 mb", 500_000_000),
        ("1.5GiB", 3 << 29),
        ("64KiB", 65536),
        ("12345", 12345),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "5TB", "5 G B", "nan", "1e9", "9" * 40])
def test_invalid_sizes(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a size"):
        parse_size(text)
