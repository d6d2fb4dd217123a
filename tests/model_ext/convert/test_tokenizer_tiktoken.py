"""The converted tokenizer of LLaMA 3 returns BOS and the ids of tiktoken."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken import Encoding
from tiktoken._educational import bpe_train
from transformers import AutoTokenizer

from model_ext.convert.tokenizer import write_tokenizer
from model_ext.convert.tokenizer_tiktoken import PIECES, fast_tokenizer, is_tiktoken
from model_ext.prompt import WITH_INPUT, alpaca_prompt
from model_ext.weights.errors import ConvertError

TEXT = WITH_INPUT + " I'll don't 12345 été größer\n\n  two  spaces \t tab 日本語 😀 " * 3
RANKS = bpe_train(TEXT, vocab_size=400, pat_str=PIECES, visualise=None)
REFERENCE = Encoding("small", pat_str=PIECES, mergeable_ranks=RANKS, special_tokens={})
ROWS = len(RANKS) + 256


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama3") / "tokenizer.model"
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in RANKS.items()]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def ids_of(file: Path) -> Callable[[str], list[int]]:
    tokenizer = fast_tokenizer(file, ROWS)
    return lambda text: list(tokenizer.encode(text).ids)


@given(st.one_of(st.text(), st.lists(st.sampled_from(TEXT.split(" "))).map(" ".join)))
def test_any_text_is_cut_as_tiktoken_cuts_it(ids_of: Callable[[str], list[int]], text: str) -> None:
    assert ids_of(text) == [len(RANKS), *REFERENCE.encode(text, disallowed_special=())]


def test_the_model_folder_has_it(file: Path, tmp_path: Path) -> None:
    bos, eos = write_tokenizer(file, tmp_path, ROWS)
    assert (bos, eos) == (len(RANKS), len(RANKS) + 1)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    prompt = alpaca_prompt("What is this?")
    assert tokenizer(prompt)["input_ids"] == [bos, *REFERENCE.encode(prompt)]
    assert tokenizer.decode(REFERENCE.encode(TEXT)) == TEXT
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is this?"}], add_generation_prompt=True
    )
    assert chat["input_ids"] == [bos, *REFERENCE.encode(prompt)]


def test_special_tokens_follow_the_others(file: Path) -> None:
    tokenizer = fast_tokenizer(file, ROWS)
    first = len(RANKS)
    assert tokenizer.get_vocab_size() == ROWS
    assert tokenizer.id_to_token(first) == "<|begin_of_text|>"
    assert tokenizer.id_to_token(first + 9) == "<|eot_id|>"
    assert tokenizer.encode("<|eot_id|>", add_special_tokens=False).ids == [first + 9]


@pytest.mark.parametrize("rows", [len(RANKS), 1])
def test_another_vocabulary_is_refused(file: Path, rows: int) -> None:
    with pytest.raises(ConvertError, match=rf"has {len(RANKS)} tokens, the embedding {rows} rows"):
        fast_tokenizer(file, rows)


@pytest.mark.parametrize("line", ["YQ==", "?? 3", "YQ== x", "YQ== 1 2", "YQ== 100000"])
def test_a_broken_file_is_refused(file: Path, tmp_path: Path, line: str) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_text(f"{file.read_text()}{line}\n")
    with pytest.raises(ConvertError, match=r"tokenizer\.model: "):
        fast_tokenizer(path, ROWS)


def test_files_are_told_apart(file: Path) -> None:
    released = Path(__file__).parents[2] / "fixtures" / "tiny" / "llama" / "tokenizer.model"
    assert is_tiktoken(file)
    assert not is_tiktoken(released)
