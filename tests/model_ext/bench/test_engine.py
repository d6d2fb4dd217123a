"""The benchmarks of the engine: their ratios, and the requests that they send.

These tests use fake engines. tests/deploy/test_gpu_check.py starts real engines.
"""

import subprocess
import sys
import time
from typing import Any, cast

import pytest

from model_ext.bench import random_model
from model_ext.bench.engine import (
    WORKLOADS,
    EngineArm,
    Timing,
    Workload,
    compare,
    cpu_seconds,
    engine_flags,
)
from model_ext.bench.engine_arm import Generator
from model_ext.bench.full_size import ADAPTER_7B, LLAMA_7B
from model_ext.bench.throughput import CLIENTS, WORKLOAD, result


class Fake:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.seeds: list[int] = []

    def run(self, _: Workload, seed: int) -> Timing:
        self.seeds.append(seed)
        return Timing(self.seconds, cpu=self.seconds**2)

    def profile(self, _: Workload, **__: int) -> float:
        return 0.005


def fake(seconds: float) -> Any:
    return cast(EngineArm, Fake(seconds))


@pytest.mark.parametrize(
    ("name", "ratio"), [("decode-1", 0.5), ("decode-32", 0.5), ("first-token", 2.0)]
)
def test_twice_the_time(name: str, ratio: float) -> None:
    plain, conditioned = fake(1.0), fake(2.0)
    measured = compare(plain, conditioned, WORKLOADS["cpu"][name], pairs=3)
    assert (measured.ratio.median, measured.ratio.pairs) == (ratio, 3)
    assert measured.cpu.median == ratio**2
    assert (measured.plain_s, measured.conditioned_s) == (1, 2)
    assert "0.50%" in str(measured)
    # Both compared models get equal prompts, and each run has new prompts.
    assert plain.seeds == conditioned.seeds == [-1, -2, 1, 2, 3]


class FakeLLM:
    def __init__(self) -> None:
        self.calls: list[tuple[list[Any], list[Any]]] = []

    def generate(self, prompts: list[Any], params: list[Any], **_: object) -> None:
        self.calls.append((prompts, params))


@pytest.mark.parametrize("dim", [None, 8])
def test_the_requests_of_a_workload(dim: int | None) -> None:
    config = {"vocab_size": 100} | ({} if dim is None else {"imagebind": {"embedding_dim": dim}})
    llm = FakeLLM()
    generator = Generator(llm, config)
    for seed in (1, 1, 2):
        generator.run(requests=50, prompt=7, tokens=24, min_tokens=4, seed=seed)
    (prompts, params), (again, _), (other, _) = llm.calls
    ids = [prompt["prompt_token_ids"] for prompt in prompts]
    assert {len(each) for each in ids} == {7}
    assert [prompt["prompt_token_ids"] for prompt in again] == ids
    assert [prompt["prompt_token_ids"] for prompt in other] != ids
    lengths = {each.max_tokens for each in params}
    assert len(lengths) > 5
    assert min(lengths) >= 4
    assert max(lengths) <= 24
    embeddings = {prompt["cache_salt"] for prompt in [*prompts, *again]}
    # Each of 100 conditioned requests has a different embedding.
    assert len(embeddings) == (1 if dim is None else 100)


def test_the_shape_of_7b_is_the_released_one() -> None:
    shape = random_model.LLAMA_7B
    assert (shape.hidden, shape.intermediate, shape.layers, shape.heads, shape.vocabulary) == tuple(
        LLAMA_7B[letter] for letter in "CFLHV"
    )
    assert shape.kv_heads * shape.hidden // shape.heads == LLAMA_7B["K"]
    layout = random_model.injection_layout(shape)
    assert layout["bind.blocks.0.gate_proj.weight"] == (ADAPTER_7B["W"], LLAMA_7B["C"])
    assert layout["injection.v_lora_a"][:2] == (ADAPTER_7B["q"], ADAPTER_7B["r"])
    assert shape.parameters == 6_738_415_616
    assert shape.kv_bytes == 2 * 32 * 4096 * 2


@pytest.mark.parametrize(
    ("gigabytes", "tokens"), [(150, 256 * 224), (85, 33_400), (40, None), (24, None)]
)
def test_two_engines_share_a_gpu(
    gigabytes: float, tokens: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Properties:
        total_memory = int(gigabytes * 1e9)

    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: Properties)
    shape = random_model.LLAMA_7B
    if tokens is None:
        message = "a GPU of (40|24) GB does not hold 2 engines of"
        with pytest.raises(RuntimeError, match=message):
            engine_flags("cuda", shape)
        return
    cache = engine_flags("cuda", shape)["kv_cache_memory_bytes"]
    assert cache / shape.kv_bytes == pytest.approx(tokens, rel=0.05)
    weights = 2 * (2 * shape.parameters)
    assert 2 * cache + weights < 0.88 * Properties.total_memory


def test_cpu_seconds_are_those_of_the_group() -> None:
    spins = "import time\nwhile time.process_time() < 0.2: pass\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", spins], stdin=subprocess.PIPE, start_new_session=True
    )
    before = cpu_seconds(process.pid)
    while cpu_seconds(process.pid) < 0.2:
        time.sleep(0.01)
    assert before < 0.2
    process.communicate(b"\n")
    assert cpu_seconds(process.pid) == 0  # all processes have ended


def test_a_share_of_the_limit() -> None:
    """The reported figures equal a calculation by hand.

    The loop takes 2 s for each client, and the engine takes 8 s for all clients together. With
    batched matrix products, a factor of 16 would be possible.
    """
    measured = result("2 threads", fair=None, triples=[((2.0, 16.0), 8.0)] * 3)
    assert measured.speedup.median == CLIENTS * 2 / 8
    assert measured.share.median == measured.speedup.median / 16
    assert measured.loop == WORKLOAD.tokens / 2
    assert measured.engine == CLIENTS * WORKLOAD.tokens / 8
    assert "transformers" not in str(measured)
