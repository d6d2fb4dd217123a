"""Encoder replicas as a server sees them: they die, they are full, they say what is wrong."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from server.encoding.decode.pool import MediaError
from server.encoding.messages import Answer, Hello, Packet
from server.errors import Unavailable
from server.media.blob import MemoryBlob

ray = pytest.importorskip("ray.exceptions", reason="Ray is not installed (extra `ray`)")
serve = pytest.importorskip("ray.serve.exceptions")

from deploy.ray.encoders import TRIES, RayEncoders  # noqa: E402

VECTOR = np.array([0.6, 0.8], np.float32)
GOOD = Packet(Answer(False, {"decode": 0.01, "encode": 0.02}), VECTOR).encode()


class Replicas:
    """Answers with each of `answers` in turn: bytes, or an exception."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, bytes]] = []

    async def hello(self) -> bytes:
        return Packet(Hello(["vision"]), VECTOR).encode()

    async def embed(self, modality: str, data: bytes) -> bytes:
        self.asked.append((modality, data))
        answer = self.answers.pop(0)
        await asyncio.sleep(0.01)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_hello_tells_encoders_and_the_zero_image() -> None:
    hello, zero = await RayEncoders(Replicas(), 1 << 20).hello()
    assert hello.encoders == ["vision"]
    assert (zero == VECTOR).all()


async def test_the_file_goes_there_and_its_embedding_comes_back() -> None:
    replicas = Replicas(GOOD)
    embedding = await RayEncoders(replicas, 1 << 20).embed("image", MemoryBlob(b"bytes"))
    assert (embedding == VECTOR).all()
    assert replicas.asked == [("image", b"bytes")]


async def test_equal_files_are_sent_once() -> None:
    replicas = Replicas(GOOD)
    encoders = RayEncoders(replicas, 1 << 20)
    together = [encoders.embed("image", MemoryBlob(b"same")) for _ in range(5)]
    await asyncio.gather(*together)
    await encoders.embed("image", MemoryBlob(b"same"))
    assert len(replicas.asked) == 1


async def test_a_replica_that_dies_costs_no_request() -> None:
    replicas = Replicas(ray.RayActorError(), ray.RayActorError(), GOOD)
    embedding = await RayEncoders(replicas, 1 << 20).embed("image", MemoryBlob(b"bytes"))
    assert (embedding == VECTOR).all()


async def test_a_file_that_kills_every_replica_is_given_up() -> None:
    replicas = Replicas(*[ray.RayActorError() for _ in range(10)])
    with pytest.raises(Unavailable) as caught:
        await RayEncoders(replicas, 1 << 20).embed("image", MemoryBlob(b"bytes"))
    assert caught.value.code == "encoders_unavailable"
    assert len(replicas.asked) == TRIES


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (lambda: serve.BackPressureError(1, 1), "encode_queue_full"),
        (lambda: serve.RayServeException("no such deployment"), "encoders_unavailable"),
    ],
)
async def test_full_and_gone_are_503(failure: Callable[[], Exception], code: str) -> None:
    replicas = Replicas(failure())
    with pytest.raises(Unavailable) as caught:
        await RayEncoders(replicas, 1 << 20).embed("image", MemoryBlob(b"bytes"))
    assert caught.value.code == code
    assert len(replicas.asked) == 1


async def test_a_bad_file_is_the_clients_fault_and_is_not_kept() -> None:
    told = Answer.describe(MediaError("the image is damaged"))
    bad = Packet(Answer(False, {"decode": 0.01}, "decode", told)).encode()
    replicas = Replicas(bad, GOOD)
    encoders = RayEncoders(replicas, 1 << 20)
    with pytest.raises(MediaError, match="damaged"):
        await encoders.embed("image", MemoryBlob(b"bytes"))
    assert (await encoders.embed("image", MemoryBlob(b"bytes")) == VECTOR).all()
