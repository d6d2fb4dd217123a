"""Build a fast tokenizer from LLaMA 3's tiktoken file, with the same ids.

Each line of the file has the bytes of a token in base64, and the token's rank, which is its id. The
file does not contain the special tokens; their ids follow the last rank. This module writes no
files.
"""

import base64
import binascii
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from model_ext.weights.errors import ConvertError

# The pattern that splits a text into words before bytes are merged, as published with the model.
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
NAMED = {0: BOS, 1: EOS, 6: "<|start_header_id|>", 7: "<|end_header_id|>", 9: "<|eot_id|>"}
# A byte in these ranges is written as the character with the same code point.
PRINTABLE = (range(33, 127), range(161, 173), range(174, 256))


def is_tiktoken(path: Path) -> bool:
    """Whether the first line is a token and a rank; otherwise the file is SentencePiece's."""
    with path.open("rb") as file:
        words = file.readline(200).split()
    return len(words) == 2 and words[1].isdigit()


def fast_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """Build the tokenizer. `vocab_size` is the embedding's number of rows.

    The rows that have no token in the file belong to special tokens.

    Raises ConvertError: when the file is damaged or does not fit the embedding.
    """
    ranks = _read(path)
    specials = vocab_size - len(ranks)
    if specials < len(NAMED) or sorted(ranks.values()) != list(range(len(ranks))):
        raise ConvertError(
            f"{path}: has {len(ranks)} tokens, the embedding {vocab_size} rows; "
            "name the model's own tokenizer with --tokenizer"
        )
    letters = _letters()

    def text(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    vocab = {text(token): rank for token, rank in ranks.items()}
    merges = [(text(left), text(right)) for left, right in _merges(ranks)]
    # As in tiktoken, a word that is itself a token becomes this token without merging.
    tokenizer = Tokenizer(BPE(vocab, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    names = [NAMED.get(i, f"<|reserved_special_token_{i}|>") for i in range(specials)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, len(ranks))]
    )
    return tokenizer


def _read(path: Path) -> dict[bytes, int]:
    ranks = {}
    try:
        for line in path.read_bytes().splitlines():
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (ValueError, binascii.Error):
        raise ConvertError(f"{path}: {line[:40]!r} is not a line of a tiktoken file") from None
    return ranks


def _merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return all pairs of tokens whose concatenation is a token, sorted by the rank of the
    concatenation.
    """
    merges = []
    for token, rank in ranks.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ranks and right in ranks:
                merges.append((rank, ranks[left], ranks[right], left, right))
    return [(left, right) for *_, left, right in sorted(merges)]


def _letters() -> list[str]:
    """Return byte -> the character that represents it in byte-level tokenizers."""
    printable = {byte for part in PRINTABLE for byte in part}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
