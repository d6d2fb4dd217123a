"""Dynamic batches, one bad sample among good ones, a bounded queue. The model is a fake."""

import asyncio
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest
import torch
from torch import Tensor

from server.encoding.batcher import Encoder
from server.errors import BadRequest, Unavailable


class Model:
    """Doubles its inputs (B, N); notes its batches; can be held back; cannot stand -1."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []
        self.busy, self.go = threading.Event(), threading.Event()
        self.go.set()

    def unit(self, modality: str, inputs: Tensor) -> Tensor:
        self.busy.set()
        self.go.wait(10)
        self.batches.append((modality, len(inputs)))
        if (inputs == -1).any():
            raise RuntimeError("a secret of the model")
        return inputs * 2


def sample(value: float, size: int = 2) -> Tensor:
    return torch.full((size,), float(value))


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
async def encoder(model: Model) -> AsyncIterator[Encoder]:
    encoder = Encoder(model, max_batch=4, max_waiting=8)
    yield encoder
    model.go.set()
    encoder.close()


async def hold(encoder: Encoder, model: Model) -> "asyncio.Future[np.ndarray]":
    """Keep the thread busy with one sample, so that what comes next has to wait."""
    model.go.clear()
    first = asyncio.ensure_future(encoder.encode("vision", sample(9)))
    await asyncio.to_thread(model.busy.wait, 10)
    return first


async def test_one_sample(encoder: Encoder) -> None:
    embedding = await encoder.encode("vision", sample(3))
    assert embedding.tolist() == [6, 6]
    assert embedding.base is None  # a view would keep its whole batch


async def test_those_who_wait_share_batches_in_order(encoder: Encoder, model: Model) -> None:
    first = await hold(encoder, model)
    others = [encoder.submit("vision", sample(i + 1)) for i in range(6)]
    model.go.set()
    answers = [await asyncio.wrap_future(other) for other in others]
    assert [answer[0] for answer in answers] == [2, 4, 6, 8, 10, 12]
    assert (await first)[0] == 18
    assert model.batches == [("vision", 1), ("vision", 4), ("vision", 2)]


async def test_only_equal_kinds_stack(encoder: Encoder, model: Model) -> None:
    """Another modality, another number of points, another dtype: batches of their own."""
    first = await hold(encoder, model)
    others = [
        encoder.submit("vision", sample(1)),
        encoder.submit("audio", sample(1)),
        encoder.submit("point", sample(1, size=5)),
        encoder.submit("vision", sample(2)),
        encoder.submit("point", sample(1, size=6)),
        encoder.submit("vision", sample(1).long()),
    ]
    model.go.set()
    await asyncio.gather(first, *map(asyncio.wrap_future, others))
    assert model.batches[1:] == [
        *(("vision", 2), ("audio", 1), ("point", 1)),
        *(("point", 1), ("vision", 1)),
    ]


async def test_a_bad_sample_does_not_fail_its_batch_mates(encoder: Encoder, model: Model) -> None:
    first = await hold(encoder, model)
    others = [encoder.submit("vision", sample(value)) for value in (1, -1, 2)]
    model.go.set()
    results = await asyncio.gather(first, *map(asyncio.wrap_future, others), return_exceptions=True)
    assert [result[0] for result in (results[1], results[3])] == [2, 4]  # type: ignore[index]
    assert isinstance(results[2], BadRequest)
    assert "secret" not in results[2].message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0])
async def test_what_is_no_direction_is_refused_alone(
    encoder: Encoder, model: Model, value: float
) -> None:
    first = await hold(encoder, model)
    bad, good = (encoder.submit("vision", sample(each)) for each in (value, 1))
    model.go.set()
    with pytest.raises(BadRequest, match="no embedding"):
        await asyncio.wrap_future(bad)
    assert (await asyncio.wrap_future(good))[0] == 2
    assert await first is not None


async def test_a_full_queue_says_no_at_once(encoder: Encoder, model: Model) -> None:
    first = await hold(encoder, model)
    waiting = [encoder.submit("vision", sample(1)) for _ in range(8)]
    with pytest.raises(Unavailable, match="waiting to be encoded"):
        encoder.submit("vision", sample(1))
    model.go.set()
    await asyncio.gather(first, *map(asyncio.wrap_future, waiting))


async def test_who_leaves_is_not_encoded(encoder: Encoder, model: Model) -> None:
    first = await hold(encoder, model)
    leaving = asyncio.ensure_future(encoder.encode("vision", sample(1)))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    model.go.set()
    await first
    await encoder.encode("vision", sample(2))
    assert model.batches == [("vision", 1), ("vision", 1)]


async def test_out_of_memory_is_not_the_clients_fault(encoder: Encoder, model: Model) -> None:
    def unit(*_: object) -> Tensor:
        raise torch.OutOfMemoryError

    model.unit = unit  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="memory"):
        await encoder.encode("vision", sample(1))
    assert encoder.alive


def test_closing_answers_those_who_wait_and_refuses_new_ones(model: Model) -> None:
    encoder = Encoder(model)
    waiting = encoder.submit("vision", sample(1))
    encoder.close()
    assert waiting.result(0)[0] == 2
    assert not encoder.alive
    with pytest.raises(Unavailable, match="shutting down"):
        encoder.submit("vision", sample(1))
