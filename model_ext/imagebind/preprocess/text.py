"""Encode text as CLIP token ids (77,): start mark, tokens, end mark, zeros."""

import torch
from torch import Tensor

from model_ext.imagebind.preprocess.bpe import Tokenizer
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits


def read_text(data: bytes, config: PreprocessConfig, limits: Limits) -> Tensor:
    """-> (context length,) int64"""
    del limits  # `preprocess` has checked the length in bytes, the only limit
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise DecodeError("the text is not UTF-8") from None
    return tokens(text, config)


def tokens(text: str, config: PreprocessConfig) -> Tensor:
    """Encode a text, and shorten it to the context length, with the end mark as the last id.

    The encoder's output is that of the end mark. The released code cuts this mark off, so that all
    long texts have the same embedding; this function differs from it on purpose.
    """
    tokenizer = Tokenizer.load()
    context = config.context_length
    ids = [tokenizer.start, *tokenizer.encode(text, min_ids=context), tokenizer.end]
    if len(ids) > context:
        ids = [*ids[: context - 1], ids[-1]]
    padded = torch.zeros(context, dtype=torch.int64)
    padded[: len(ids)] = torch.tensor(ids)
    return padded
