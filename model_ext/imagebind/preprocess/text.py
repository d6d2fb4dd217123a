"""Text -> CLIP token ids (77,): start mark, tokens, end mark, zeros."""

import torch
from torch import Tensor

from model_ext.imagebind.preprocess.bpe import Tokenizer
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits


def read_text(data: bytes, config: PreprocessConfig, limits: Limits) -> Tensor:
    """-> (context length,) int64"""
    del limits  # the length in bytes is all there is to limit
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise DecodeError("the text is not UTF-8") from None
    return tokens(text, config)


def tokens(text: str, config: PreprocessConfig) -> Tensor:
    """A long text is cut, but keeps its end mark, where the encoder reads off the meaning.

    The released code cuts that mark off as well, and so gives all long texts the same embedding;
    `released_truncation` does the same.
    """
    tokenizer = Tokenizer.load()
    context = config.context_length
    ids = [tokenizer.start, *tokenizer.encode(text, min_ids=context), tokenizer.end]
    if len(ids) > context:
        ids = ids[:context] if config.released_truncation else [*ids[: context - 1], ids[-1]]
    padded = torch.zeros(context, dtype=torch.int64)
    padded[: len(ids)] = torch.tensor(ids)
    return padded
