"""Compare the throughput of the engine with many clients with that of the released loop, which
answers one request after the other. Also measure an upper limit: how much faster the language
model's matrix products are in a batch (one product of 32 rows compared with 32 products of one
row).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from model_ext.bench import random_model
from model_ext.bench.engine import Device, EngineArm, Workload, engine_flags, runs, start_arm
from model_ext.bench.pairs import Ratio, measure, ratio
from model_ext.bench.released import ReleasedLoop
from model_ext.bench.timing import seconds

CLIENTS = 32
WORKLOAD = Workload("clients", CLIENTS, prompt=16, tokens=64)


@dataclass(frozen=True, slots=True)
class ThroughputResult:
    device: str
    # To check that the loop is a fair baseline: its speed divided by that of `generate` in
    # transformers, without attachments
    fair: Ratio | None
    loop: float  # The released loop's median tokens per second.
    engine: float
    speedup: Ratio  # The engine's tokens per second divided by the loop's.
    limit: Ratio  # The speedup of the matrix products in a batch.
    share: Ratio  # `speedup` divided by `limit`.

    def __str__(self) -> str:
        lines = [
            f"{CLIENTS} clients, {WORKLOAD.prompt} + {WORKLOAD.tokens} tokens each, {self.device}"
        ]
        if self.fair is not None:
            lines.append(f"  loop / transformers' generate, text only  {self.fair}")
        return "\n".join(
            [
                *lines,
                f"  loop    {self.loop:7.1f} tokens/s",
                f"  engine  {self.engine:7.1f} tokens/s",
                f"  engine / loop          {self.speedup}",
                f"  matrix products alone  {self.limit}",
                f"  share of that limit    {self.share}",
            ]
        )


def run(
    folder: Path, pairs: int, shape: random_model.Shape, device: Device = "cpu"
) -> ThroughputResult:
    """Run the comparison. On a CPU, `folder` keeps the random weights for the next run. On a GPU,
    the weights are created in bfloat16.
    """
    if device == "cuda":
        _, our_model = random_model.write_configs(folder, shape)
        flags, cpus = engine_flags(device, shape), "auto"
    else:
        _, our_model = random_model.write(folder, shape)
        cores = sorted(os.sched_getaffinity(0))
        torch.set_num_threads(len(cores))  # the engine's number of threads
        flags, cpus = engine_flags(device, shape), ",".join(map(str, cores))
    with start_arm(our_model, flags, cpus) as engine:
        engine.wait_until_ready()
        return compare(engine, weights(folder, shape, device), pairs, shape)


def weights(folder: Path, shape: random_model.Shape, device: Device) -> dict[str, Tensor]:
    """Return the injected model's tensors. On a CPU, these are the tensors that the engine reads;
    on a GPU, new random tensors.
    """
    if device == "cpu":
        return load_file(folder / "injected" / "model.safetensors")
    layout = random_model.language_model_layout(shape) | random_model.injection_layout(shape)
    return random_model.random_weights(layout, 0, device, torch.bfloat16)


def compare(
    engine: EngineArm, tensors: dict[str, Tensor], pairs: int, shape: random_model.Shape
) -> ThroughputResult:
    device = tensors["lm_head.weight"].device
    fair = fairness(tensors, pairs, shape) if device.type == "cpu" else None
    loop = ReleasedLoop(random_model.injected_config(shape), tensors)
    products = matrices({name: tensors[name] for name in random_model.language_model_layout(shape)})
    batch = runs(engine, WORKLOAD)
    batch()  # a warm-up of the engine, which is not measured
    one_request(loop, shape)
    triples = measure(
        lambda: (one_request(loop, shape), limit(products)), lambda: batch().seconds, pairs
    )
    name = f"{torch.get_num_threads()} threads"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return result(name, fair, triples)


def result(
    device: str, fair: Ratio | None, triples: Sequence[tuple[tuple[float, float], float]]
) -> ThroughputResult:
    """Compute the result of the measurements in `triples`.

    Each is ((seconds of one request in the loop, speedup that batching allows), seconds of all
    requests in the engine).
    """
    speedups = [(CLIENTS * one, batch) for (one, _), batch in triples]
    return ThroughputResult(
        device=device,
        fair=fair,
        loop=WORKLOAD.tokens / float(np.median([one for (one, _), _ in triples])),
        engine=CLIENTS * WORKLOAD.tokens / float(np.median([batch for _, batch in triples])),
        speedup=ratio(speedups),
        limit=ratio([(limit, 1.0) for (_, limit), _ in triples]),
        share=ratio([(a / b, t[0][1]) for (a, b), t in zip(speedups, triples, strict=True)]),
    )


def fairness(tensors: dict[str, Tensor], pairs: int, shape: random_model.Shape) -> Ratio:
    """Return the released loop's speed divided by that of `generate` in transformers, with equal
    weights. Raises RuntimeError: when the loop and transformers generate different tokens.
    """
    config = random_model.plain_config(shape)
    llm = {name: tensors[name] for name in random_model.language_model_layout(shape)}
    loop = ReleasedLoop(config, llm, injected=False)
    model = LlamaForCausalLM(LlamaConfig.from_dict(config)).eval()
    model.load_state_dict(llm)
    ids = prompt(shape)

    def write() -> list[int]:
        return loop.generate(ids, WORKLOAD.tokens)

    def write_with_transformers() -> list[int]:
        with torch.inference_mode():
            output = model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                max_new_tokens=WORKLOAD.tokens,
                min_new_tokens=WORKLOAD.tokens,
                do_sample=False,
                pad_token_id=0,
            )
        written: list[int] = output[0, len(ids) :].tolist()
        return written

    if write() != write_with_transformers():  # this check also warms up both loops
        raise RuntimeError("the released loop and transformers generate different tokens")
    times = measure(lambda: seconds(write_with_transformers), lambda: seconds(write), pairs)
    return ratio(times)


def prompt(shape: random_model.Shape) -> list[int]:
    rng = np.random.default_rng(0)
    ids: list[int] = rng.integers(3, shape.vocabulary, WORKLOAD.prompt).tolist()
    return ids


def one_request(loop: ReleasedLoop, shape: random_model.Shape) -> float:
    """Return the seconds of one request. They do not depend on the number of clients, because the
    released code answers requests one after the other.
    """
    embedding = torch.randn(random_model.EMBEDDING_DIM)
    return seconds(lambda: loop.generate(prompt(shape), WORKLOAD.tokens, embedding))


def matrices(tensors: dict[str, Tensor]) -> list[Tensor]:
    """Return the weight matrices of one step in the order of their use."""
    return [
        tensor
        for name, tensor in tensors.items()
        if tensor.ndim == 2 and name != "model.embed_tokens.weight"
    ]


@torch.inference_mode()
def limit(products: list[Tensor]) -> float:
    """Return the speedup by batching: the time of one product per client, divided by the time of
    one product with all clients' rows.
    """
    device = products[0].device
    one = seconds(lambda: multiply(products, 1), device)
    return CLIENTS * one / seconds(lambda: multiply(products, CLIENTS), device)


def multiply(products: list[Tensor], rows: int) -> None:
    for weight in products:
        F.linear(weight.new_ones(rows, weight.shape[1]), weight)
