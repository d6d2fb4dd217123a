"""Damaged copies of valid files, which are shortened or have flipped bits.

The tests of all readers use these functions.
"""

import random
from collections.abc import Iterator


def cut_off(data: bytes) -> Iterator[bytes]:
    """Yield 16 copies, cut at each multiple of 1/16 of the length."""
    for part in range(16):
        yield data[: len(data) * part // 16]


def bits_flipped(data: bytes, copies: int, flips: int = 8) -> Iterator[bytes]:
    dice = random.Random(7)
    for _ in range(copies):
        damaged = bytearray(data)
        for _ in range(flips):
            damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        yield bytes(damaged)
