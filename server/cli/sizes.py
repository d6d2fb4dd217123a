"""Parse file sizes with a unit: 5GB, 500MB, 1.5GiB."""

import re

import typer

UNITS = {
    "": 1,
    **{"KB": 10**3, "MB": 10**6, "GB": 10**9},
    **{"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30},
}


def parse_size(text: str) -> int:
    """Parse a size and return bytes. Typer calls this function; BadParameter ends the program with
    status 2.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) *([KMG]i?B)?", text.strip(), re.IGNORECASE)
    size = float(match[1]) * UNITS[(match[2] or "").upper()] if match else 0
    if size < 1:
        raise typer.BadParameter(f"{text!r} is not a size; write it as 5GB, 500MB or a number")
    return int(size)
