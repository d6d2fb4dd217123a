"""The batcher with fake encoders: sizes of batches, a bad sample in a batch, a full queue."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from model_ext.imagebind.runner import CpuRunner
from server.encoding.batcher import Batcher
from server.errors import BadRequest, Unavailable


class Model:
    """A fake encoder, which doubles its inputs (B, N) and records its batches.

    It waits for `go`, and raises RuntimeError for an input of -1.
    """

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []
        self.busy, self.go = threading.Event(), threading.Event()
        self.go.set()

    def unit_and_length(self, modality: str, inputs: Tensor) -> Tensor:
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


def tokens(encoder: str, shape: Sequence[int]) -> int:
    """Return the number of tokens of a sample: 1 per clip, or 2 per clip of audio."""
    return (shape[0] if len(shape) > 1 else 1) * (2 if encoder == "audio" else 1)


@pytest.fixture
async def batcher(model: Model) -> AsyncIterator[Batcher]:
    batcher = Batcher(CpuRunner(model), tokens, max_tokens=4, max_waiting=16)
    yield batcher
    model.go.set()
    batcher.close()


async def hold(batcher: Batcher, model: Model) -> "asyncio.Future[np.ndarray]":
    """Keep the batcher's thread busy with one sample, so that the next samples wait."""
    model.go.clear()
    first = asyncio.ensure_future(batcher.encode("vision", sample(9)))
    await asyncio.to_thread(model.busy.wait, 10)
    return first


async def test_one_sample(batcher: Batcher) -> None:
    embedding = await batcher.encode("vision", sample(3))
    assert embedding.tolist() == [6, 6]
    # The embedding is a copy, because a view would keep the whole batch in memory.
    assert embedding.base is None


async def test_waiting_samples_share_batches_in_order(batcher: Batcher, model: Model) -> None:
    first = await hold(batcher, model)
    others = [batcher.submit("vision", sample(i + 1)) for i in range(6)]
    model.go.set()
    answers = [await asyncio.wrap_future(other) for other in others]
    assert [answer[0] for answer in answers] == [2, 4, 6, 8, 10, 12]
    assert (await first)[0] == 18
    assert model.batches == [("vision", 1), ("vision", 4), ("vision", 2)]


async def test_samples_of_other_shapes_do_not_share_a_batch(batcher: Batcher, model: Model) -> None:
    """The batcher puts samples that differ in modality, shape or dtype into separate batches."""
    first = await hold(batcher, model)
    others = [
        batcher.submit("vision", sample(1)),
        batcher.submit("audio", sample(1)),
        batcher.submit("point", sample(1, size=5)),
        batcher.submit("vision", sample(2)),
        batcher.submit("point", sample(1, size=6)),
        batcher.submit("vision", sample(1).long()),
    ]
    model.go.set()
    await asyncio.gather(first, *map(asyncio.wrap_future, others))
    assert model.batches[1:] == [
        *(("vision", 2), ("audio", 1), ("point", 1)),
        *(("point", 1), ("vision", 1)),
    ]


async def test_a_bad_sample_fails_alone(batcher: Batcher, model: Model) -> None:
    first = await hold(batcher, model)
    others = [batcher.submit("vision", sample(value)) for value in (1, -1, 2)]
    model.go.set()
    results = await asyncio.gather(first, *map(asyncio.wrap_future, others), return_exceptions=True)
    assert [result[0] for result in (results[1], results[3])] == [2, 4]  # type: ignore[index]
    assert isinstance(results[2], BadRequest)
    assert "secret" not in results[2].message


async def test_samples_of_a_failed_batch_keep_their_turn(batcher: Batcher, model: Model) -> None:
    """Regression: samples of a failed batch were encoded before all other waiting samples."""
    first = await hold(batcher, model)
    others = [batcher.submit("vision", sample(1)), batcher.submit("audio", sample(1))]
    others.append(batcher.submit("vision", sample(-1)))
    model.go.set()
    await asyncio.gather(first, *map(asyncio.wrap_future, others), return_exceptions=True)
    assert model.batches[1:] == [
        *(("vision", 2), ("vision", 1)),
        *(("audio", 1), ("vision", 1)),
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0])
async def test_only_the_sample_without_an_embedding_is_rejected(
    batcher: Batcher, model: Model, value: float
) -> None:
    first = await hold(batcher, model)
    bad, good = (batcher.submit("vision", sample(each)) for each in (value, 1))
    model.go.set()
    with pytest.raises(BadRequest, match="no embedding"):
        await asyncio.wrap_future(bad)
    assert (await asyncio.wrap_future(good))[0] == 2
    assert await first is not None


async def test_a_full_queue_rejects_at_once(batcher: Batcher, model: Model) -> None:
    first = await hold(batcher, model)
    waiting = [batcher.submit("vision", sample(1)) for _ in range(8)]
    with pytest.raises(Unavailable, match="waiting to be encoded"):
        batcher.submit("vision", sample(1))
    model.go.set()
    await asyncio.gather(first, *map(asyncio.wrap_future, waiting))


async def test_clients_take_turns(batcher: Batcher, model: Model) -> None:
    first = await hold(batcher, model)
    done: list[str] = []
    for client, values in (("one", range(8)), ("other", range(1))):
        for value in values:
            future = batcher.submit("vision", sample(value + 1, size=3 + value), client)
            future.add_done_callback(lambda _, client=client: done.append(client))
    model.go.set()
    await first
    batcher.close()
    assert done == ["one", "other", *["one"] * 7]


async def test_a_cancelled_sample_is_not_encoded(batcher: Batcher, model: Model) -> None:
    first = await hold(batcher, model)
    leaving = asyncio.ensure_future(batcher.encode("vision", sample(1)))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    model.go.set()
    await first
    await batcher.encode("vision", sample(2))
    assert model.batches == [("vision", 1), ("vision", 1)]


async def test_out_of_memory_is_not_a_bad_request(batcher: Batcher, model: Model) -> None:
    def unit_and_length(*_: object) -> Tensor:
        raise torch.OutOfMemoryError

    model.unit_and_length = unit_and_length  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="memory"):
        await batcher.encode("vision", sample(1))
    assert batcher.alive


def test_closing_encodes_waiting_samples_and_rejects_new_ones(model: Model) -> None:
    batcher = Batcher(CpuRunner(model), tokens, max_tokens=4)
    waiting = batcher.submit("vision", sample(1))
    batcher.close()
    assert waiting.result(0)[0] == 2
    assert not batcher.alive
    with pytest.raises(Unavailable, match="shutting down"):
        batcher.submit("vision", sample(1))


async def test_a_batch_is_bounded_by_work(batcher: Batcher, model: Model) -> None:
    """A batch has at most 4 tokens: 2 sounds of 2 tokens each, or 1 sample of 3 clips. A sample
    with more tokens is a batch of one.
    """
    first = await hold(batcher, model)
    sounds = [batcher.submit("audio", sample(i + 1)) for i in range(3)]
    clips = [batcher.submit("vision", torch.ones(3, 2)) for _ in range(2)]
    large = batcher.submit("vision", torch.ones(9, 2))
    model.go.set()
    await asyncio.gather(first, *map(asyncio.wrap_future, (*sounds, *clips, large)))
    assert model.batches[1:] == [("audio", 2), ("audio", 1), *[("vision", 1)] * 3]


@dataclass
class Asynchronous:
    """Fake encoders on a GPU. Each batch ends when the test releases `finish`."""

    asynchronous: bool = True
    staged: list[float] = field(default_factory=list)
    batches: list[list[float]] = field(default_factory=list)
    finish: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    error: Exception | None = None

    def stage(self, sample: Tensor) -> Tensor:
        self.staged.append(sample[0].item())
        return sample

    def start(self, _: str, samples: Sequence[Tensor]) -> "AsynchronousRun":
        assert threading.current_thread().name == "batcher"
        self.batches.append([sample[0].item() for sample in samples])
        return AsynchronousRun(self, torch.stack(list(samples)), self.error)


@dataclass
class AsynchronousRun:
    runner: Asynchronous
    inputs: Tensor
    error: Exception | None

    def result(self) -> "np.ndarray":
        self.runner.finish.acquire()
        if self.error is not None or (self.inputs == -1).any():
            raise self.error or RuntimeError("a bad sample")
        return (self.inputs * 2).numpy()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_samples_are_staged_while_a_batch_runs_and_a_full_batch_starts_behind_it() -> None:
    runner = Asynchronous()
    batcher = Batcher(runner, tokens, max_tokens=4)
    futures = [batcher.submit("vision", sample(1))]
    until(lambda: runner.batches == [[1]])
    futures += [batcher.submit("vision", sample(i)) for i in (2, 3, 4)]
    until(lambda: runner.staged == [1, 2, 3, 4])
    assert runner.batches == [[1]], "the batcher started a batch before it was full"
    futures += [batcher.submit("vision", sample(i)) for i in (5, 6)]
    until(lambda: runner.batches == [[1], [2, 3, 4, 5]])
    until(lambda: runner.staged == [1, 2, 3, 4, 5, 6])
    futures += [batcher.submit("vision", sample(i)) for i in (7, 8, 9)]
    until(lambda: len(runner.staged) == 9)
    assert len(runner.batches) == 2, "no third batch"
    for _ in range(4):
        runner.finish.release()
    assert [future.result(10)[0] for future in futures] == [2.0 * i for i in range(1, 10)]
    assert runner.batches[2] == [6, 7, 8, 9]
    assert len(runner.staged) == 9, "the batcher must copy each sample to the device once"
    batcher.close()


def test_a_bad_sample_of_an_asynchronous_batch_fails_alone() -> None:
    runner = Asynchronous()
    batcher = Batcher(runner, tokens, max_tokens=4)
    futures = [batcher.submit("vision", sample(value)) for value in (1, 2, -1, 3)]
    for _ in range(20):
        runner.finish.release()
    batcher.close()
    results = [future.exception(0) or future.result(0)[0] for future in futures]
    assert isinstance(results.pop(2), BadRequest)
    assert results == [2, 4, 6]


def test_after_a_device_error_the_batcher_is_not_alive() -> None:
    runner = Asynchronous(error=torch.AcceleratorError("an illegal memory access"))
    batcher = Batcher(runner, tokens, max_tokens=4)
    runner.finish.release()
    with pytest.raises(Unavailable, match="device"):
        batcher.submit("vision", sample(1)).result(10)
    assert not batcher.alive
    batcher.close()
