"""Checkpoints with random weights have the released layouts, and `convert` accepts small ones."""

import json
from pathlib import Path

import pytest
import torch
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer

from model_ext.bench.full_size import (
    ADAPTER_7B,
    LLAMA_7B,
    Layout,
    Sizes,
    adapter_layout,
    imagebind_layout,
    llama_layout,
    write,
)
from model_ext.bench.random_tokenizer import write_tokenizer
from model_ext.convert.model import Options, convert
from model_ext.convert.sources import Sources
from model_ext.imagebind.config import ImageBindConfig
from tests.oracle import Oracle

FIXTURES = Path(__file__).parents[2] / "fixtures"
IMAGEBIND_SIZES = FIXTURES / "tiny" / "imagebind_config.json"
SMALL = Sizes(
    {"C": 64, "F": 96, "H": 2, "K": 64, "L": 3, "Q": 64, "V": 400},
    {"D": 40, "J": 3, "W": 128, "q": 3, "r": 4},
    ImageBindConfig.from_imagebind_config(json.loads(IMAGEBIND_SIZES.read_text())),
)


@pytest.mark.parametrize(
    ("file", "layout"),
    [
        ("llama_7B", llama_layout(LLAMA_7B)),
        ("adapter_finetune", adapter_layout({**LLAMA_7B, **ADAPTER_7B})),
        ("imagebind_w3D", imagebind_layout(ImageBindConfig.released())),
    ],
)
def test_layouts_are_the_released_ones(file: str, layout: Layout) -> None:
    """Names, shapes and dtypes of all tensors equal those of the released files."""
    released = json.loads((FIXTURES / "layout" / f"layout.{file}.json").read_text())["layout"]
    assert released == {
        name: {"shape": list(shape), "dtype": str(dtype).removeprefix("torch.")}
        for name, (shape, dtype) in layout.items()
    }


def test_small_files_convert_and_compute(tmp_path: Path) -> None:
    write(tmp_path, SMALL, progress=False)
    sources = Sources(
        llama=tmp_path / "llama" / "7B",
        adapter=tmp_path / "7B.pth",
        imagebind=tmp_path / "imagebind_w3D.pth",
        imagebind_config=IMAGEBIND_SIZES,
    )
    out = tmp_path / "model"
    config = convert(sources, out, Options(dtype=torch.float32, progress=False))
    assert config.imagebind.modalities == SMALL.imagebind.modalities
    logits = Oracle.from_folder(out).logits([1, 50, 300], torch.ones(40) / 40**0.5)
    assert logits.isfinite().all()
    # The activations of the random model are neither too small nor too large.
    assert 0.2 < logits.std() < 5


@pytest.mark.parametrize("pieces", [260, 512, 32000])
def test_a_tokenizer_of_any_size(tmp_path: Path, pieces: int) -> None:
    write_tokenizer(tmp_path / "tokenizer.model", pieces)
    tokenizer = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert len(tokenizer) == pieces
    assert (tokenizer.unk_id(), tokenizer.bos_id(), tokenizer.eos_id()) == (0, 1, 2)
    text = "What is this?\n\u00e9 \U0001f600"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_too_small_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than 259 pieces"):
        write_tokenizer(tmp_path / "tokenizer.model", 259)


def test_the_converted_tokenizer_gives_the_same_ids(tmp_path: Path) -> None:
    from model_ext.convert.tokenizer import write_tokenizer as convert_tokenizer

    write_tokenizer(tmp_path / "tokenizer.model", 2000)
    out = tmp_path / "out"
    out.mkdir()
    convert_tokenizer(tmp_path / "tokenizer.model", out, 2000)
    pieces = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    text = "Below is an instruction that describes a task."
    assert AutoTokenizer.from_pretrained(out)(text).input_ids == [1, *pieces.encode(text)]
