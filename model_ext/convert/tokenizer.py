"""Write the tokenizer files of a model's folder, from Meta's file or Hugging Face's files.

A SentencePiece file is converted to a fast tokenizer, which returns BOS and then the same ids as
SentencePiece. Tests compare these ids. `tokenizer_tiktoken.py` converts LLaMA 3's tokenizer. This
module does not depend on weights.
"""

import json
import shutil
import string
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE

from model_ext.convert import tokenizer_tiktoken
from model_ext.prompt import CHAT_TEMPLATE
from model_ext.weights.errors import ConvertError
from model_ext.weights.json_file import read_json

SENTENCEPIECE = "tokenizer.model"
HF_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
MAX_BYTES = 64 << 20  # maximum size of a tokenizer file; LLaMA's has half a megabyte
SPACE = "\u2581"
# The released model's default sampling parameters
DEFAULT_SAMPLING = {"do_sample": True, "temperature": 0.1, "top_p": 0.75}


def find_tokenizer(llama: Path) -> Path:
    """Find the tokenizer in the folder of the weights or, as in Meta's layout, in the folder above.

    Raises ConvertError: when neither folder has a tokenizer.
    """
    for folder in (llama, llama.parent):
        for name in (SENTENCEPIECE, "tokenizer.json"):
            if (folder / name).is_file():
                return folder / name
    raise ConvertError(f"{llama}: no {SENTENCEPIECE} in it or in the folder above; use --tokenizer")


def write_tokenizer(source: Path, folder: Path, vocab_size: int) -> tuple[int, int]:
    """Write tokenizer, chat template and sampling defaults. Return the ids of BOS and EOS.

    `vocab_size` is the embedding's number of rows.

    Raises ConvertError: when the file is not a tokenizer or does not fit the embedding.
    """
    if not source.is_file() or source.stat().st_size > MAX_BYTES:
        raise ConvertError(f"{source}: no such file, or too large for a tokenizer")
    if source.suffix == ".json":
        bos, eos = _copy_hf(source.parent, folder, vocab_size)
    elif tokenizer_tiktoken.is_tiktoken(source):
        tokenizer = tokenizer_tiktoken.fast_tokenizer(source, vocab_size)
        bos, eos = _save_fast(tokenizer, tokenizer_tiktoken.BOS, tokenizer_tiktoken.EOS, folder)
    else:
        bos, eos = _write_fast(source, folder, vocab_size)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    generation = {"bos_token_id": bos, "eos_token_id": eos, **DEFAULT_SAMPLING}
    _write_json(folder / "generation_config.json", generation)
    return bos, eos


def _write_fast(source: Path, folder: Path, vocab_size: int) -> tuple[int, int]:
    try:
        pieces = SentencePieceProcessor(model_file=str(source))
    except (OSError, RuntimeError) as error:
        raise ConvertError(f"{source}: not a SentencePiece model ({error})") from None
    if len(pieces) != vocab_size:
        raise ConvertError(
            f"{source}: has {len(pieces)} pieces, the embedding {vocab_size} rows; "
            "name the model's own tokenizer with --tokenizer"
        )
    shutil.copyfile(source, folder / SENTENCEPIECE)
    bos, eos = pieces.id_to_piece([pieces.bos_id(), pieces.eos_id()])
    return _save_fast(fast_tokenizer(pieces), bos, eos, folder)


def _save_fast(tokenizer: Tokenizer, bos: str, eos: str, folder: Path) -> tuple[int, int]:
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / "tokenizer_config.json", config)
    return _id(tokenizer, config, "bos_token"), _id(tokenizer, config, "eos_token")


def fast_tokenizer(pieces: SentencePieceProcessor) -> Tokenizer:
    """Build a fast tokenizer equal to a SentencePiece BPE model with byte fallback.

    The SentencePiece model must not normalise its input.
    """
    vocab = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    unknown = pieces.id_to_piece(pieces.unk_id())
    tokenizer = Tokenizer(
        BPE(vocab, _merges(pieces, vocab), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    # A normaliser adds the leading space, because a pre-tokenizer would not add it after a BOS that
    # a chat template writes. The text after a BOS that the post-processor adds also begins with a
    # space.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            *_ascii_bytes(vocab),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    bos, eos = (pieces.id_to_piece(i) for i in (pieces.bos_id(), pieces.eos_id()))
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in (bos, eos)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, pieces.bos_id())]
    )
    return tokenizer


def _ascii_bytes(vocab: dict[str, int]) -> list[decoders.Decoder]:
    """Return decoding rules for the ASCII characters that only a byte token represents, such as the
    line feed (<0x0A>) in LLaMA's vocabulary.

    If a run of byte tokens contains a broken character, the decoder ByteFallback replaces the whole
    run. With these rules, it keeps the ASCII characters in the run. Other characters get no rule,
    because each rule costs time.
    """
    return [
        decoders.Replace(f"<0x{ord(char):02X}>", char)
        for char in string.printable
        if char not in vocab and f"<0x{ord(char):02X}>" in vocab
    ]


def _merges(pieces: SentencePieceProcessor, vocab: dict[str, int]) -> list[tuple[str, str]]:
    """Return all pairs of pieces whose concatenation is a piece, sorted by the score of the
    concatenation.

    A SentencePiece file contains no merges: SentencePiece joins the two neighbours whose
    concatenation has the best score.
    """
    merges = []
    for piece, number in vocab.items():
        if pieces.is_control(number) or pieces.is_byte(number) or pieces.is_unknown(number):
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocab and right in vocab:
                merges.append((-pieces.get_score(number), vocab[left], vocab[right], left, right))
    return [(left, right) for *_, left, right in sorted(merges)]


def _copy_hf(source: Path, folder: Path, vocab_size: int) -> tuple[int, int]:
    for name in (*HF_FILES, SENTENCEPIECE):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if tokenizer.get_vocab_size() > vocab_size:  # the embedding may have additional rows as padding
        raise ConvertError(
            f"{source / 'tokenizer.json'}: has {tokenizer.get_vocab_size()} tokens, the embedding "
            f"{vocab_size} rows; name the model's own tokenizer with --tokenizer"
        )
    config = read_json(source / "tokenizer_config.json")
    return _id(tokenizer, config, "bos_token"), _id(tokenizer, config, "eos_token")


def _id(tokenizer: Tokenizer, config: dict[str, Any], key: str) -> int:
    token = config.get(key)
    text = token["content"] if isinstance(token, dict) else token
    number = tokenizer.token_to_id(text) if isinstance(text, str) else None
    if number is None:
        raise ConvertError(f"tokenizer_config.json: {key} {text!r} is not in the vocabulary")
    return number


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
