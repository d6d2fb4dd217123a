"""Write a SentencePiece tokenizer of any vocabulary size with arbitrary pieces, for models with
random weights. The order of pieces is LLaMA's: unknown, begin, end, 256 bytes, single characters,
longer pieces, no padding.
"""

from collections.abc import Iterator
from itertools import count, islice, product
from pathlib import Path
from string import ascii_lowercase, printable

from sentencepiece import sentencepiece_model_pb2 as proto

SPACE = "\u2581"


def write_tokenizer(path: Path, pieces: int) -> None:
    model = proto.ModelProto()
    kinds = proto.ModelProto.SentencePiece
    for text, kind in (("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)):
        model.pieces.add(piece=text, score=0, type=kind)
    for byte in range(256):
        model.pieces.add(piece=f"<0x{byte:02X}>", score=0, type=kinds.BYTE)
    if pieces <= len(model.pieces):
        raise ValueError(f"a tokenizer of this kind has more than {len(model.pieces)} pieces")
    for rank, text in enumerate(islice(_words(), pieces - len(model.pieces))):
        model.pieces.add(piece=text, score=-rank, type=kinds.NORMAL)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.byte_fallback = proto.TrainerSpec.BPE, True
    trainer.vocab_size, trainer.pad_id = pieces, -1
    normalizer.name, normalizer.remove_extra_whitespaces = "identity", False
    path.write_bytes(model.SerializeToString())


def _words() -> Iterator[str]:
    yield SPACE
    yield from sorted(set(printable) - set(" \t\n\r\v\f"))
    for length in count(1):
        for letters in product(ascii_lowercase, repeat=length):
            word = "".join(letters)
            yield SPACE + word
            if length > 1:
                yield word
