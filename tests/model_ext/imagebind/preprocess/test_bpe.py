import random
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from model_ext.imagebind.preprocess import bpe
from model_ext.imagebind.preprocess.bpe import END_OF_WORD, Pair, Tokenizer, clean
from tests.model_ext.imagebind.preprocess.bpe_oracle import Oracle, merge


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load()


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(bpe.read_merges())


def merge_by_passes(symbols: list[str], ranks: dict[Pair, int]) -> list[str]:
    """Merge slowly: find the pair with the lowest rank, join it everywhere, and repeat."""
    while True:
        pairs = [pair for pair in pairwise(symbols) if pair in ranks]
        if not pairs:
            return symbols
        best = min(pairs, key=ranks.__getitem__)
        joined: list[str] = []
        for symbol in symbols:
            if joined and (joined[-1], symbol) == best:
                joined[-1] += symbol + "\x00"  # \x00 prevents a second merge in this pass
            else:
                joined.append(symbol)
        symbols = [symbol.replace("\x00", "") for symbol in joined]


def test_the_oracles_heap_equals_passes_on_random_words(oracle: Oracle) -> None:
    dice = random.Random(0)
    for _ in range(2000):
        letters = dice.choice(("ab", "aeinrst", "abcdefghijklmnopqrstuvwxyz", "!?.,-"))
        word = "".join(dice.choices(letters, k=dice.randint(1, 40)))
        symbols = [*word[:-1], word[-1] + END_OF_WORD]
        assert merge(symbols, oracle.ranks) == merge_by_passes(symbols, oracle.ranks), word


def test_merges_go_by_rank_then_from_the_left() -> None:
    ranks = {("a", "a"): 1, ("a", "b"): 0, ("aa", "a"): 2}
    assert merge(list("aaaa"), ranks) == ["aa", "aa"]
    assert merge(list("aaa"), ranks) == ["aaa"]
    assert merge(list("aab"), ranks) == ["a", "ab"]
    assert merge(["a"], ranks) == ["a"]


def test_encodes_what_the_oracle_encodes(tokenizer: Tokenizer, oracle: Oracle) -> None:
    """Random texts of ASCII, Latin letters or any characters have the ids of the oracle."""
    dice = random.Random(1)
    ranges = [(97, 122), (97, 122), (32, 126), (0, 0x2FF), (0, 0xD7FF), (0xE000, 0x1FFFF)]
    for _ in range(5000):
        chosen = dice.choices(ranges, k=dice.randint(0, 60))
        text = "".join(chr(dice.randint(*bounds)) for bounds in chosen)
        assert tokenizer.encode(text, min_ids=len(text) * 20) == oracle.encode(text), repr(text)


def test_encodes_only_as_many_words_as_are_needed(tokenizer: Tokenizer, oracle: Oracle) -> None:
    text = "unbelievable weatherproofness " * 100
    ids = tokenizer.encode(text, min_ids=77)
    assert 77 <= len(ids) < 90
    assert ids == oracle.encode(text)[: len(ids)]


def test_a_word_as_long_as_the_limit_does_not_take_minutes(
    tokenizer: Tokenizer, oracle: Oracle
) -> None:
    word = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=65_536))
    begin = time.process_time()
    ids = tokenizer.encode(word, min_ids=77)
    assert time.process_time() - begin < 5
    assert ids == oracle.encode(word)


def test_vocabulary(tokenizer: Tokenizer, oracle: Oracle) -> None:
    assert len(oracle.ids) == 49408
    assert (tokenizer.start, tokenizer.end) == (49406, 49407)
    assert oracle.ids["!"] == 0
    assert oracle.ids["!" + END_OF_WORD] == 256
    assert len(set(bpe.byte_letters().values())) == 256


def test_typed_marks_are_text(tokenizer: Tokenizer) -> None:
    """The tokenizer encodes the marks of start and end in a client's text as plain characters."""
    text = "a <|endoftext|> b <|startoftext|>"
    assert not {tokenizer.start, tokenizer.end} & set(tokenizer.encode(text, min_ids=77))


def test_cleaning() -> None:
    assert clean("  It&amp;amp;s\n\tRAINING  ") == "it&s raining"
    assert clean("cafÃ©") == "café"


def test_words_split_clitics_digits_and_signs(tokenizer: Tokenizer) -> None:
    words = bpe.WORDS.findall("it's 42 kites!? we'll")
    assert words == ["it", "'s", "4", "2", "kites", "!?", "we", "'ll"]
    assert tokenizer.encode("", min_ids=77) == []


def test_the_vocabulary_comes_with_its_licence() -> None:
    text = (bpe.VOCABULARY.parent / "LICENSE").read_text()
    assert bpe.VOCABULARY.name in text
    assert "Copyright (c) 2021 OpenAI" in text
    assert "MIT" in text


def test_loading_imports_no_torch_and_starts_no_thread() -> None:
    """Loading must start no threads, because a decoding process has limited memory."""
    program = (
        "import os, sys; from model_ext.imagebind.preprocess.bpe import Tokenizer;"
        "assert Tokenizer.load().encode('a dog', min_ids=9);"
        "assert not {'open_clip', 'torch', 'torchvision'} & set(sys.modules);"
        "assert len(os.listdir('/proc/self/task')) == 1"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
