"""Convert text to CLIP token ids (77,): start mark, tokens, end mark, zeros."""

import torch
from torch import Tensor

from model_ext.imagebind.preprocess.bpe import Tokenizer
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Notes, ReadOptions


def read_text(
    data: bytes,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """-> (context length,) int64"""
    del limits, options, notes  # unused, because `preprocess` has checked the size
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise DecodeError("the text is not UTF-8") from None
    return tokens(text, config)


def tokens(text: str, config: PreprocessConfig) -> Tensor:
    """Convert a text to ids. Cuts a text that is too long, so that the last id is the end mark: the
    text encoder's output is taken at the position of the end mark.

    The released code cuts off the end mark, so that all long texts get the same embedding. This
    function does not repeat that error.
    """
    tokenizer = Tokenizer.load()
    context = config.context_length
    ids = [tokenizer.start, *tokenizer.encode(text, min_ids=context), tokenizer.end]
    if len(ids) > context:
        ids = [*ids[: context - 1], ids[-1]]
    padded = torch.zeros(context, dtype=torch.int64)
    padded[: len(ids)] = torch.tensor(ids)
    return padded
