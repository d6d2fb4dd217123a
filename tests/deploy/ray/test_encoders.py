"""RayEncoders with fake replicas, which respond, die, or reject requests because their queue is
full.
"""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, RayServeException

from deploy.ray.encoders import TRIES, RayEncoders
from server.context import RequestContext, entered
from server.encoding.decode.pool import MediaError
from server.encoding.messages import Answer, Hello, Job, Message, Packet
from server.errors import Unavailable
from server.media.blob import MemoryBlob

VECTOR = np.array([0.6, 0.8], np.float32)
GOOD = Packet(
    Answer(False, {"decode": 0.01, "encode": 0.02}), np.append(VECTOR, np.float32(2))
).encode()


class Replicas:
    """Fake replicas that return or raise the next item of `answers` at each call."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[Message, bytes]] = []

    async def hello(self) -> bytes:
        return Packet(Hello(["vision"]), VECTOR).encode()

    async def embed(self, job: bytes, data: bytes) -> bytes:
        self.calls.append((Packet.decode(job).message, data))
        answer = self.answers.pop(0)
        await asyncio.sleep(0.01)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_hello_returns_the_encoders_and_the_zero_image() -> None:
    hello, zero = await RayEncoders(Replicas(), 1 << 20).hello()
    assert hello.encoders == ["vision"]
    assert (zero == VECTOR).all()


async def test_a_file_is_sent_and_its_embedding_returned() -> None:
    replicas = Replicas(GOOD)
    embedding = await RayEncoders(replicas, 1 << 20).embed("image", MemoryBlob(b"bytes"))
    assert (embedding.unit == VECTOR).all()
    ((job, data),) = replicas.calls
    assert isinstance(job, Job)
    assert (job.modality, job.size, data) == ("image", 5, b"bytes")


async def test_equal_files_are_sent_once() -> None:
    replicas = Replicas(GOOD)
    encoders = RayEncoders(replicas, 1 << 20)
    together = [encoders.embed("image", MemoryBlob(b"same")) for _ in range(5)]
    await asyncio.gather(*together)
    await encoders.embed("image", MemoryBlob(b"same"))
    assert len(replicas.calls) == 1


@pytest.mark.parametrize(("shared", "calls"), [(False, 2), (True, 1)])
async def test_api_keys_share_results_only_if_the_operator_allows_it(
    shared: bool, calls: int
) -> None:
    replicas = Replicas(GOOD, GOOD)
    encoders = RayEncoders(replicas, 1 << 20, share_results=shared)
    for key in ("one", "other", "one"):
        with entered(RequestContext(b"", key_salt=key)):
            await encoders.embed("image", MemoryBlob(b"same"))
    assert len(replicas.calls) == calls


async def test_a_file_whose_replica_dies_is_sent_to_another() -> None:
    replicas = Replicas(RayActorError(), RayActorError(), GOOD)
    embedding = await RayEncoders(replicas, 1 << 20).embed("image", MemoryBlob(b"bytes"))
    assert (embedding.unit == VECTOR).all()


async def test_a_file_that_kills_every_replica_is_rejected() -> None:
    replicas = Replicas(*[RayActorError() for _ in range(10)])
    with pytest.raises(Unavailable) as caught:
        await RayEncoders(replicas, 1 << 20).embed("image", MemoryBlob(b"bytes"))
    assert caught.value.code == "encoders_unavailable"
    assert len(replicas.calls) == TRIES


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (lambda: BackPressureError(1, 1), "encode_queue_full"),
        (lambda: RayServeException("no such deployment"), "encoders_unavailable"),
    ],
)
async def test_full_and_missing_replicas_are_unavailable(
    failure: Callable[[], Exception], code: str
) -> None:
    replicas = Replicas(failure())
    with pytest.raises(Unavailable) as caught:
        await RayEncoders(replicas, 1 << 20).embed("image", MemoryBlob(b"bytes"))
    assert caught.value.code == code
    assert len(replicas.calls) == 1


async def test_the_error_of_a_damaged_file_is_raised_and_not_cached() -> None:
    description = Answer.describe(MediaError("the image is damaged"))
    bad = Packet(Answer(False, {"decode": 0.01}, "decode", description)).encode()
    replicas = Replicas(bad, GOOD)
    encoders = RayEncoders(replicas, 1 << 20)
    with pytest.raises(MediaError, match="damaged"):
        await encoders.embed("image", MemoryBlob(b"bytes"))
    assert ((await encoders.embed("image", MemoryBlob(b"bytes"))).unit == VECTOR).all()
