"""The functions `answer` and `unpack`, which write and read the answer to a job (one file to
embed).
"""

import logging

import numpy as np
import pytest

from model_ext.imagebind.preprocess.options import ReadOptions
from model_ext.imagebind.preprocess.sample import Sample
from server.context import RequestContext, entered
from server.encoding.cache import ResultCache
from server.encoding.decode.pool import MediaError
from server.encoding.embedder import Embedder
from server.encoding.job import answer, unpack
from server.encoding.messages import Answer, Hello, Job, MessageError, Packet
from server.errors import InternalError
from server.media.blob import Blob, MemoryBlob

CAT = Job("image", 3, "")
VECTOR = np.array([0.6, 0.8], np.float32)


class Stage:
    """A fake decoder and encoder. The decoder raises `error` if `error` is set."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def decode(
        self,
        modality: str,
        content: Blob,
        options: ReadOptions,  # noqa: ARG002
        client: str,
    ) -> Sample:
        assert client == ""
        if self.error:
            raise self.error
        return Sample(modality, f"{modality} of {content.size} bytes".encode(), {"dropped": 1})  # type: ignore[arg-type]

    async def encode(self, encoder: str, tensor: bytes, client: str) -> np.ndarray:  # type: ignore[type-arg]
        assert (encoder, tensor, client) == ("vision", b"image of 3 bytes", "")
        return VECTOR


def embedder(error: Exception | None = None) -> Embedder:
    stage = Stage(error)
    return Embedder(stage, stage, ["vision"], ResultCache(1 << 20))  # type: ignore[arg-type]


async def test_an_answer_holds_the_embedding_and_whether_it_was_cached() -> None:
    one = embedder()
    packets = [await answer(one, CAT, MemoryBlob(b"cat")) for _ in range(2)]
    assert [unpack(packet)[1] for packet in packets] == [False, True]
    for embedded, _ in map(unpack, packets):
        assert (embedded.numbers == VECTOR).all()
        assert (embedded.modality, embedded.notes) == ("image", {"dropped": 1})


async def test_an_unexpected_error_is_logged_here_and_hidden_from_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        packet = await answer(embedder(KeyError("secret")), CAT, MemoryBlob(b"cat"))
    assert "KeyError: 'secret'" in caplog.text
    with pytest.raises(InternalError) as caught:
        unpack(packet)
    assert "secret" not in caught.value.message


async def test_an_error_of_the_file_is_raised_at_the_other_end() -> None:
    packet = await answer(embedder(MediaError("damaged")), CAT, MemoryBlob(b"cat"))
    with pytest.raises(MediaError, match="damaged"):
        unpack(Packet.decode(packet.encode()))


def test_stages_of_one_job_do_not_overlap() -> None:
    request = RequestContext(b"")
    with entered(request):
        unpack(Packet(Answer(False, {"decode": 2.0, "encode": 1.0}), VECTOR))
    decode, encode = request.timeline.spans
    assert (decode.stage, encode.stage) == ("decode", "encode")
    assert decode.start + decode.seconds == pytest.approx(encode.start, abs=0.05)


def test_another_message_is_no_answer() -> None:
    with pytest.raises(MessageError, match="Hello"):
        unpack(Packet(Hello(["vision"])))
