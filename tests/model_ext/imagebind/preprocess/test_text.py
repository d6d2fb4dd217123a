import json

import pytest
import torch
from torch import Tensor

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.text import read_text, tokens
from tests.model_ext.imagebind.conftest import FIXTURES

INDEX = json.loads((FIXTURES / "golden/index.json").read_text())
TEXTS: list[str] = INDEX["preprocess"]["text"]["texts"]


@pytest.mark.parametrize("row", range(len(TEXTS)))
def test_released_tokens(row: int, golden_inputs: dict[str, Tensor]) -> None:
    released = PreprocessConfig(released_truncation=True)
    ids = read_text(TEXTS[row].encode(), released, Limits())
    assert ids.dtype == torch.int64
    assert torch.equal(ids, golden_inputs["text/tokens"][row])


def test_long_texts_keep_their_end_mark() -> None:
    """Without it, the encoder reads off at position 0: one embedding for all long texts."""
    ids = tokens("word " * 100, PreprocessConfig())
    assert ids[-1] == 49407
    assert torch.equal(ids[:76], tokens("word " * 75, PreprocessConfig())[:76])
    released = tokens("word " * 100, PreprocessConfig(released_truncation=True))
    assert 49407 not in released


def test_longest_text_that_fits() -> None:
    for config in (PreprocessConfig(), PreprocessConfig(released_truncation=True)):
        ids = tokens("word " * 75, config)
        assert ids[-1] == 49407
        assert (ids > 0).all()


def test_context_length_is_the_models() -> None:
    assert tokens("a dog", PreprocessConfig(context_length=16)).shape == (16,)


def test_bytes_must_be_utf8(config: PreprocessConfig, limits: Limits) -> None:
    with pytest.raises(DecodeError, match="UTF-8"):
        read_text(b"\xff\xfe", config, limits)
