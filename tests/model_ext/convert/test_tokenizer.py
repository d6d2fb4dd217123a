"""The converted tokenizer returns the ids of SentencePiece, with and without a chat template."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer

from model_ext.convert.tokenizer import fast_tokenizer, find_tokenizer, write_tokenizer
from model_ext.weights.errors import ConvertError
from tests.model_ext.convert.conftest import TINY

MODEL = TINY / "llama" / "tokenizer.model"
INDEX: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "golden" / "index.json").read_text()
)["logits"]
PIECES = SentencePieceProcessor(model_file=str(MODEL))
FAST = fast_tokenizer(PIECES)
WORDS = [PIECES.id_to_piece(i).replace("\u2581", " ") for i in range(259, len(PIECES))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert write_tokenizer(MODEL, tmp_path, 512) == (1, 2)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tmp_path


@pytest.mark.parametrize("number", range(3))
def test_released_prompt_ids(folder: Path, number: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = INDEX["prompt_ids"][number]
    assert tokenizer(INDEX["prompts"][number])["input_ids"] == ids
    # A chat template writes BOS into the text, so that the tokenizer must not add BOS.
    text = tokenizer.bos_token + INDEX["prompts"][number]
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids


def test_a_chat_gives_the_released_prompt_ids(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "Describe the scene in detail."}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert ids == INDEX["prompt_ids"][0]


def test_a_chat_through_vllm_gives_the_released_prompt_ids(folder: Path) -> None:
    """A chat has the released ids, also if vLLM's own code renders and encodes it."""
    hf = pytest.importorskip("vllm.renderers.hf")
    params = pytest.importorskip("vllm.renderers.params")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = hf.safe_apply_chat_template(
        None,
        tokenizer,
        [{"role": "user", "content": "Describe the scene in detail."}],
        chat_template=tokenizer.chat_template,
        tokenize=False,
        add_generation_prompt=True,
    )
    encode = params.TokenizeParams(max_total_tokens=512, add_special_tokens=False)
    assert tokenizer.encode(text, **encode.get_encode_kwargs()) == INDEX["prompt_ids"][0]


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=4)), max_size=12))
def test_any_text_is_cut_as_sentencepiece_cuts_it(words: list[str]) -> None:
    text = "".join(words)
    if any(0xD800 <= ord(char) < 0xE000 for char in text) or "<s>" in text or "</s>" in text:
        # exclude unpaired surrogates and special tokens, for which SentencePiece has other rules
        return
    assert FAST.encode(text).ids == [1, *PIECES.encode(text)]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_written_text_reads_back(words: list[str]) -> None:
    text = "".join(words)
    ids = PIECES.encode(text)
    assert FAST.decode(ids) == PIECES.decode(ids) == text


def test_a_character_that_is_a_byte_survives_a_broken_neighbour() -> None:
    """A character that is encoded as a byte is decoded correctly after an incomplete character."""
    cut = PIECES.piece_to_id("<0xE4>")  # the first of three bytes of a character
    four = PIECES.encode("4")[1]
    assert PIECES.id_to_piece(four) == "<0x34>"
    assert FAST.decode([cut, four]) == PIECES.decode([cut, four]) == "\ufffd4"


def test_greedy_texts_without_broken_characters(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = {key: run for key, run in INDEX["greedy"].items() if "\ufffd" not in run["text"]}
    assert whole
    for run in whole.values():
        assert tokenizer.decode(run["ids"], skip_special_tokens=True) == run["text"]


def test_released_sampling_is_the_default(folder: Path) -> None:
    assert json.loads((folder / "generation_config.json").read_text()) == {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "do_sample": True,
        "temperature": 0.1,
        "top_p": 0.75,
    }


def test_hugging_face_files_are_taken_over(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    assert write_tokenizer(folder / "tokenizer.json", copy, 512) == (1, 2)
    assert (copy / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert (copy / "chat_template.jinja").is_file()


def test_hugging_face_files_of_too_many_tokens_are_refused(folder: Path, tmp_path: Path) -> None:
    """The model's token embedding may have more rows than tokens (padding), but not fewer."""
    (tmp_path / "copy").mkdir()
    assert write_tokenizer(folder / "tokenizer.json", tmp_path / "copy", 576) == (1, 2)
    with pytest.raises(ConvertError, match=r"tokenizer\.json: has 512 tokens, the .* 500 rows"):
        write_tokenizer(folder / "tokenizer.json", tmp_path / "copy", 500)


def test_hugging_face_files_must_name_bos(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<bos>"}))
    (tmp_path / "copy").mkdir()
    with pytest.raises(ConvertError, match="bos_token '<bos>' is not in the vocabulary"):
        write_tokenizer(folder / "tokenizer.json", tmp_path / "copy", 512)


def test_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"tokenizer\.model: has 512 pieces, .* 32000 rows"):
        write_tokenizer(MODEL, tmp_path, 32000)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(b"no tokenizer")
    with pytest.raises(ConvertError, match=r"x\.model: not a SentencePiece model"):
        write_tokenizer(tmp_path / "x.model", tmp_path, 512)
    with pytest.raises(ConvertError, match="no such file"):
        write_tokenizer(tmp_path / "gone.model", tmp_path, 512)


def test_the_tokenizer_is_beside_the_weights_or_above(tmp_path: Path) -> None:
    assert find_tokenizer(TINY / "llama" / "tiny") == MODEL
    with pytest.raises(ConvertError, match="--tokenizer"):
        find_tokenizer(tmp_path / "a" / "b")
