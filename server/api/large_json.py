"""Parse large JSON without delaying other threads.

`json.loads` holds the interpreter's lock until it returns: tens of milliseconds for a text of 20
MB. During this time, the event loop waits. `loads` decodes long strings in pieces, and returns the
same value.
"""

import json
import secrets
from collections.abc import Iterator
from typing import Any

LONG = 1 << 20  # Strings of more bytes are decoded in pieces of about this size.
MAX_QUOTES = 10_000  # After this number of quotes, strings are not decoded in pieces.
MAX_SHIFT = 4096  # maximum bytes by which a piece is longer than LONG
ESCAPES = 12  # bytes of the longest escape, a surrogate pair: \ud83d\ude00
BACKSLASH = ord("\\")


def loads(body: bytes) -> Any:
    """Return `json.loads(body)`. Raises ValueError, RecursionError."""
    literals = list(long_strings(body)) if len(body) > LONG else []
    try:
        return loads_in_pieces(body, literals) if literals else json.loads(body)
    except ValueError:  # for example, a long string is the name of a value
        return json.loads(body)


def long_strings(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each long string, with its quotes."""
    start, position = -1, 0  # start of the string that contains `position`, or -1
    for _ in range(MAX_QUOTES):
        quote = body.find(b'"', position)
        if quote < 0:
            return
        if start < 0:
            start = quote
        elif not is_escaped(body, position, quote):
            if quote - start > LONG:
                yield start, quote + 1
            start = -1
        position = quote + 1


def is_escaped(body: bytes, start: int, quote: int) -> bool:
    """Whether an odd number of backslashes precedes the quote. The string, or what remains of it
    after its last escaped quote, begins at `start`.
    """
    if body[quote - 1] != BACKSLASH:
        return False
    before = body[start:quote]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


def loads_in_pieces(body: bytes, literals: list[tuple[int, int]]) -> Any:
    """Parse the body with a number in place of each long string. The parser calls `value` for each
    number.

    Raises ValueError.
    """
    marker = f"-0.{secrets.randbits(64)}e"  # no client can guess it
    texts: dict[str, str] = {}
    pieces, position = [], 0
    for start, end in literals:
        name = f"{marker}{len(texts)}"
        texts[name] = decode(body, start + 1, end - 1)
        pieces += [body[position:start], f" {name} ".encode()]
        position = end
    pieces.append(body[position:])

    def value(number: str) -> str | float:
        return texts[number] if number in texts else float(number)

    return json.loads(b"".join(pieces), parse_float=value)


def decode(body: bytes, start: int, end: int) -> str:
    """Decode the content of a string, which is body[start:end]. Raises ValueError."""
    pieces = []
    while start < end:
        cut = end_of_piece(body, start + LONG, end)
        text = body[start:cut].decode("utf-8", "surrogatepass")
        pieces.append(json.loads(f'"{text}"'))
        start = cut
    return "".join(pieces)


def end_of_piece(body: bytes, position: int, end: int) -> int:
    """Return the first position, from `position` on, at which neither a character nor an escape
    continues. Raises ValueError: when there is none nearby.
    """
    for cut in range(position, position + MAX_SHIFT):
        if cut >= end:
            return end
        is_inside = body[cut] & 0xC0 == 0x80  # a continuation byte of UTF-8
        if not is_inside and b"\\" not in body[cut - ESCAPES : cut]:
            return cut
    raise ValueError("no place to cut the string, because it has an escape everywhere")
