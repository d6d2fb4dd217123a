"""At start-up, the server divides the memory of a GPU (here a fake one), or rejects the
settings.
"""

import logging
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_ext.conditioning import Vector
from server.api.components import Encoders
from server.api.launch import memory
from server.api.launch.memory import MEASURED, check_early, fit_many, fit_to_card
from server.encoding.messages import Hello
from server.engine.flags import UsageError, parse
from server.engine.memory_budget import CUDA_CONTEXT, MAX_UTILIZATION, Card, GiB
from server.settings import Settings

ENCODER_BYTES = 3 * GiB
Parse = Callable[..., Namespace]


class FakeEncoders:
    """A fake encoding service, which responds only to `hello`."""

    def __init__(self, gpu_bytes: int = ENCODER_BYTES) -> None:
        self.answer = Hello(["vision"], "bfloat16", gpu_bytes)

    async def hello(self) -> tuple[Hello, Vector]:
        return self.answer, np.ones(4, np.float32)

    async def close(self) -> None: ...


def encoders(gpu_bytes: int = ENCODER_BYTES) -> Encoders:
    return FakeEncoders(gpu_bytes)  # type: ignore[return-value]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[float, float], None]:
    monkeypatch.setenv("HOME", str(tmp_path))

    def install(total: float, used: float = 0) -> None:
        fake = Card("fake", int(total * GiB), int((total - used) * GiB))
        monkeypatch.setattr(memory, "read_card", lambda: fake)

    return install


@pytest.fixture
def arguments(settings: Settings, tmp_path: Path) -> Parse:
    def arguments(*flags: str, **changes: object) -> Namespace:
        changed = settings.model_copy(update={"vllm_args": flags, **changes})
        args = parse(changed)
        args.bindserve, args.bindserve_scratch = changed, tmp_path
        args.kv_cache_memory_bytes = None  # remove the value that vLLM's parser sets for a CPU
        return args

    return arguments


async def test_nothing_changes_without_a_gpu(arguments: Parse, tmp_path: Path) -> None:
    args = arguments()
    before = vars(args).copy()
    check_early(args)
    await fit_to_card(args, encoders())
    await fit_many(args)
    assert vars(args) == before
    assert args.gpu_memory_utilization == 0.92
    assert not (tmp_path / MEASURED).exists()


async def test_the_engine_gets_what_the_others_leave(
    card: Callable[..., None], arguments: Parse, caplog: pytest.LogCaptureFixture
) -> None:
    card(24, used=3.5)
    args = arguments(cache_device="cpu")
    with caplog.at_level(logging.INFO, logger="server.api.launch.memory"):
        await fit_to_card(args, encoders())
    expected = 1 - (ENCODER_BYTES + CUDA_CONTEXT) / (24 * GiB) - 0.02
    assert args.gpu_memory_utilization == pytest.approx(expected, abs=0.001)
    assert "encoders" in caplog.text


async def test_encoders_elsewhere_leave_the_card_to_the_engine(
    card: Callable[..., None], arguments: Parse
) -> None:
    card(80)
    for args, source in (
        (arguments(cache_device="cpu"), None),
        (arguments(cache_device="cpu"), encoders(0)),
        (arguments(cache_device="cpu", encode_device="cuda:1"), encoders()),
    ):
        await fit_to_card(args, source)
        assert args.gpu_memory_utilization == MAX_UTILIZATION


async def test_memory_of_other_programs_counts(card: Callable[..., None], arguments: Parse) -> None:
    card(80, used=30)
    args = arguments(cache_device="cpu")
    await fit_to_card(args, encoders())
    assert args.gpu_memory_utilization == pytest.approx(1 - 30 / 80 - 0.02, abs=0.001)


async def test_each_api_process_has_an_index(
    card: Callable[..., None], arguments: Parse, monkeypatch: pytest.MonkeyPatch
) -> None:
    card(24, used=3.5)
    monkeypatch.setattr(memory, "EncodingClient", lambda _path: FakeEncoders())
    shares = []
    for count in (2, 3):
        args = arguments(f"--api-server-count={count}")
        await fit_many(args)
        shares.append(args.gpu_memory_utilization)
        index = args.bindserve.cache_gpu_bytes
        assert index >= 256 << 20, "each index needs memory for the scores and rows of a search"
    assert shares[0] - shares[1] == pytest.approx((index + CUDA_CONTEXT) / (24 * GiB), abs=0.002)


async def test_the_operators_share_is_kept_or_rejected(
    card: Callable[..., None], arguments: Parse
) -> None:
    card(24)
    args = arguments("--gpu-memory-utilization=0.5")
    await fit_to_card(args, encoders())
    assert args.gpu_memory_utilization == 0.5
    with pytest.raises(UsageError, match=r"--gpu-memory-utilization 0\.95"):
        await fit_to_card(arguments("--gpu-memory-utilization=0.95"), encoders())


async def test_a_measurement_rejects_the_next_start_before_the_encoders_load(
    card: Callable[..., None], arguments: Parse, tmp_path: Path
) -> None:
    card(24)
    greedy = arguments("--gpu-memory-utilization=0.9", cache_device="cpu")
    check_early(greedy)  # The check passes because the encoders' memory is not measured yet.
    await fit_to_card(arguments(cache_device="cpu"), encoders())
    assert (tmp_path / MEASURED).exists()
    with pytest.raises(UsageError, match="encoders"):
        check_early(greedy)
    check_early(arguments("--gpu-memory-utilization=0.9", cache_device="cpu", encode_batch=1))
    card(80)
    check_early(greedy)  # The check passes because the measurement was made on another GPU.


async def test_a_damaged_or_unwritable_store_is_no_error(
    card: Callable[..., None], arguments: Parse, tmp_path: Path
) -> None:
    card(24)
    path = tmp_path / MEASURED
    path.parent.mkdir(parents=True)
    path.write_text("[1")
    check_early(arguments(cache_device="cpu"))
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("a file")
    await fit_to_card(arguments(cache_device="cpu"), encoders())
