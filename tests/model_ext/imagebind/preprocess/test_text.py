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
END = 49407  # the id of the end mark


@pytest.mark.parametrize("row", range(len(TEXTS)))
def test_released_tokens(row: int, golden_inputs: dict[str, Tensor]) -> None:
    """The ids equal those of the released code, except for the end mark of a text that is too
    long.
    """
    ids = read_text(TEXTS[row].encode(), PreprocessConfig(), Limits())
    assert ids.dtype == torch.int64
    released = golden_inputs["text/tokens"][row]
    if END in released:
        assert torch.equal(ids, released)
    else:
        assert torch.equal(ids[:-1], released[:-1])
        assert ids[-1] == END


def test_long_texts_keep_their_end_mark() -> None:
    """A text that is too long keeps its end mark, because the encoder returns the output at this
    mark.
    """
    ids = tokens("word " * 100, PreprocessConfig())
    assert ids[-1] == END
    assert torch.equal(ids[:76], tokens("word " * 75, PreprocessConfig())[:76])


def test_longest_text_that_fits() -> None:
    ids = tokens("word " * 75, PreprocessConfig())
    assert ids[-1] == END
    assert (ids > 0).all()


def test_context_length_is_the_models() -> None:
    assert tokens("a dog", PreprocessConfig(context_length=16)).shape == (16,)


def test_bytes_must_be_utf8(config: PreprocessConfig, limits: Limits) -> None:
    with pytest.raises(DecodeError, match="UTF-8"):
        read_text(b"\xff\xfe", config, limits)
