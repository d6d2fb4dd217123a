"""Tokenizing training examples: token ids, and labels for the tokens of answers only."""

import pytest
import torch

from model_ext.prompt import alpaca_prompt
from model_ext.train.data.tokens import Turn, pad, tokenize
from model_ext.train.tokenizer import TextTokenizer, open_tokenizer
from tests.model_ext.train.conftest import FIXTURES


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return open_tokenizer(FIXTURES / "tiny" / "llama" / "tokenizer.model")


def learned(tokenizer: TextTokenizer, *turns: Turn) -> str:
    """Return the text of the tokens that have labels, without EOS."""
    sample = tokenize(turns, tokenizer, 512)
    return tokenizer.decode([i for i in sample.labels.tolist() if i != tokenizer.eos and i])


def test_only_the_answer_is_learned(tokenizer: TextTokenizer) -> None:
    sample = tokenize([Turn("Name it.", "A kettle.")], tokenizer, 512)
    prompt = tokenizer.encode(alpaca_prompt("Name it."))
    assert sample.ids[0] == tokenizer.bos
    assert sample.ids[-1] == sample.labels[-1] == tokenizer.eos
    assert not sample.labels[: 1 + len(prompt)].any()
    assert torch.equal(sample.labels[1 + len(prompt) :], sample.ids[1 + len(prompt) :])
    assert learned(tokenizer, Turn("Name it.", "A kettle.")) == "A kettle."


def test_all_answers_of_a_conversation_are_learned(tokenizer: TextTokenizer) -> None:
    turns = (Turn("Name it.", "A kettle"), Turn("And now?", "It whistles."))
    assert learned(tokenizer, *turns) == "A kettleIt whistles."
    sample = tokenize(turns, tokenizer, 512)
    text = tokenizer.decode(sample.ids.tolist()[1:-1])
    first = alpaca_prompt("Name it.") + "A kettle"
    assert text == first + "\n\n### Instruction:\nAnd now?\n\n### Response:It whistles."


def test_a_long_answer_is_cut_and_loses_its_end(tokenizer: TextTokenizer) -> None:
    sample = tokenize([Turn("Go on.", "and on " * 100)], tokenizer, 64)
    assert len(sample.ids) == len(sample.labels) == 64
    assert sample.ids[-1] != tokenizer.eos


def test_the_released_form_of_an_instruction_is_a_tuple(tokenizer: TextTokenizer) -> None:
    sample = tokenize([Turn("Say it.\nNow.", "It.")], tokenizer, 512, "released")
    assert r"('Say it.\nNow.',)" in tokenizer.decode(sample.ids.tolist()[1:-1])


def test_chinese_goes_through_unchanged(tokenizer: TextTokenizer) -> None:
    turn = Turn("这是什么？", "一只猫。", "图片")
    assert learned(tokenizer, turn) == "一只猫。"
    sample = tokenize([turn], tokenizer, 512)
    text = tokenizer.decode(sample.ids.tolist()[1:-1])
    assert text == alpaca_prompt("这是什么？", "图片") + "一只猫。"


def test_padding_is_on_the_right_and_never_a_target(tokenizer: TextTokenizer) -> None:
    short = tokenize([Turn("Hi.", "Ho.")], tokenizer, 512)
    long = tokenize([Turn("Hi.", "Ho ho ho ho.")], tokenizer, 512)
    ids, labels = pad([short, long])
    assert ids.shape == labels.shape == (2, len(long.ids))
    assert not ids[0, len(short.ids) :].any()
    assert not labels[0, len(short.ids) :].any()
    assert pad([short], 99)[0].shape == (1, 99)
