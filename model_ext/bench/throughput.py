"""Many clients at once through the engine, against the released way of answering them in turn.

Beside it the limit: what batching brings the language model's matrix products alone, 32 rows at
once over one row 32 times, with the same weights, in the same run.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from model_ext.bench import random_model
from model_ext.bench.engine import FLAGS, Load, arm, runs
from model_ext.bench.pairs import Ratio, measure, ratio
from model_ext.bench.released import ReleasedLoop
from model_ext.engine.adapter import CPU_WORKER

CLIENTS = 32
LOAD = Load("clients", CLIENTS, prompt=16, tokens=64)


@dataclass(frozen=True, slots=True)
class Outcome:
    threads: int
    fair: Ratio  # the loop's speed over that of transformers' generate, text only
    loop: float  # tokens a second, median
    engine: float
    speedup: Ratio  # the engine's tokens a second over the loop's
    limit: Ratio  # the same of the matrix products alone
    share: Ratio  # speedup over limit

    def __str__(self) -> str:
        return (
            f"{CLIENTS} clients, {LOAD.prompt} + {LOAD.tokens} tokens each, "
            f"{self.threads} threads\n"
            f"  loop over transformers' generate, text only  {self.fair}\n"
            f"  loop    {self.loop:7.1f} tokens/s\n"
            f"  engine  {self.engine:7.1f} tokens/s\n"
            f"  engine over loop       {self.speedup}\n"
            f"  matrix products alone  {self.limit}\n"
            f"  share of that limit    {self.share}"
        )


def run(folder: Path, pairs: int, shape: random_model.Shape) -> Outcome:
    """`folder` keeps the random weights for the next run."""
    plain_model, our_model = random_model.write(folder, shape)
    loop = ReleasedLoop.from_folder(our_model)
    products = matrices(load_file(plain_model / "model.safetensors"))
    cpus = sorted(os.sched_getaffinity(0))
    torch.set_num_threads(len(cpus))  # as many as the engine gets
    flags = {**FLAGS, "worker_cls": CPU_WORKER}
    with arm(our_model, flags, cpus=",".join(map(str, cpus))) as engine:
        fair = fairness(plain_model, pairs, shape)
        batch = runs(engine, LOAD)
        batch()  # warm
        triples = measure(
            lambda: (alone(loop, shape), limit(products)), lambda: batch().seconds, pairs
        )
    return outcome(fair, triples)


def outcome(fair: Ratio, triples: Sequence[tuple[tuple[float, float], float]]) -> Outcome:
    """From ((seconds of one request in the loop, limit), seconds of all clients' in the engine)."""
    speedups = [(CLIENTS * one, batch) for (one, _), batch in triples]
    return Outcome(
        threads=torch.get_num_threads(),
        fair=fair,
        loop=LOAD.tokens / float(np.median([one for (one, _), _ in triples])),
        engine=CLIENTS * LOAD.tokens / float(np.median([batch for _, batch in triples])),
        speedup=ratio(speedups),
        limit=ratio([(bound, 1.0) for (_, bound), _ in triples]),
        share=ratio([(a / b, t[0][1]) for (a, b), t in zip(speedups, triples, strict=True)]),
    )


def fairness(plain_model: Path, pairs: int, shape: random_model.Shape) -> Ratio:
    """Of speeds: 1 if our loop is no slower than transformers'. They write the same tokens."""
    loop = ReleasedLoop.from_folder(plain_model, injected=False)
    model = LlamaForCausalLM.from_pretrained(plain_model).eval()
    ids = prompt(shape)

    def ours() -> list[int]:
        return loop.generate(ids, LOAD.tokens)

    def theirs() -> list[int]:
        with torch.inference_mode():
            found = model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                max_new_tokens=LOAD.tokens,
                min_new_tokens=LOAD.tokens,
                do_sample=False,
                pad_token_id=0,
            )
        written: list[int] = found[0, len(ids) :].tolist()
        return written

    if ours() != theirs():  # which also warms up
        raise RuntimeError("the loop does not write what transformers writes")
    return ratio(measure(lambda: seconds(theirs), lambda: seconds(ours), pairs))


def prompt(shape: random_model.Shape) -> list[int]:
    ids: list[int] = np.random.default_rng(0).integers(3, shape.vocabulary, LOAD.prompt).tolist()
    return ids


def alone(loop: ReleasedLoop, shape: random_model.Shape) -> float:
    """Seconds of one request. Those of others do not change it: the release takes turns."""
    embedding = torch.randn(random_model.EMBEDDING_DIM)
    return seconds(lambda: loop.generate(prompt(shape), LOAD.tokens, embedding))


def matrices(weights: dict[str, Tensor]) -> list[Tensor]:
    """Of the products of one step, in their order."""
    return [
        tensor
        for name, tensor in weights.items()
        if tensor.ndim == 2 and name != "model.embed_tokens.weight"
    ]


@torch.inference_mode()
def limit(products: list[Tensor]) -> float:
    """The clients' rows one after the other, over all at once."""
    return (
        CLIENTS
        * seconds(lambda: multiply(products, 1))
        / (seconds(lambda: multiply(products, CLIENTS)))
    )


def multiply(products: list[Tensor], rows: int) -> None:
    for weight in products:
        F.linear(torch.ones(rows, weight.shape[1]), weight)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
