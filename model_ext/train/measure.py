"""Compare a training step under DeepSpeed with a plain PyTorch step, and measure the encoder's
share of a step.

    python -m model_ext.train.measure pretrain CONFIG.yaml [--steps 20]

The two kinds of steps alternate, with the same batches and equal modules, so that other load on the
machine slows both. Prints one JSON object of medians in seconds; the key `ours` has the seconds
under DeepSpeed.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from model_ext.imagebind.model import ImageBind
from model_ext.train import distributed, engine
from model_ext.train.config import TrainConfig
from model_ext.train.data.dataset import Batch
from model_ext.train.lm.base import open_base
from model_ext.train.lm.model import ConditionedLlama
from model_ext.train.lm.phase import BETAS, EPS, Phase, groups
from model_ext.train.run import TrainingPlan, make_dataset, make_model, step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phase", choices=["pretrain", "finetune"])
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    config = TrainConfig.from_file(options.config, options.phase)
    if config.threads:
        torch.set_num_threads(config.threads)
    print(json.dumps(summary(measure(config, options.phase, options.steps))))


def measure(config: TrainConfig, phase: Phase, steps: int) -> dict[str, list[float]]:
    """Return the seconds of each step: under DeepSpeed (`ours`), in plain PyTorch (`plain`), and of
    the pictures' encoding (`encode`).
    """
    device = distributed.join()
    ds = engine.settings(config, device)
    dtype = engine.base_dtype(ds)
    llama = open_base(config.base)
    dataset = make_dataset(config, device)
    plan = TrainingPlan.of(config, len(dataset))
    ds_engine = engine.start(make_model(llama, config, phase, dtype), config, ds)
    plain = make_model(llama, config, phase, dtype).to(device)
    optimizer = torch.optim.AdamW(
        groups(plain.named_parameters(), config.weight_decay), lr=1e-5, betas=BETAS, eps=EPS
    )
    times: dict[str, list[float]] = {"ours": [], "plain": [], "encode": []}
    encoders = ImageBind.from_folder(config.encoders, device)
    for update in range(steps):
        batches = list(plan.batches(update % plan.updates, dataset))
        engine.set_learning_rate(ds_engine, 1e-5)
        started = time.perf_counter()
        step(ds_engine, iter(batches), device)
        times["ours"].append(time.perf_counter() - started)
        started = time.perf_counter()
        plain_step(plain, optimizer, batches, device)
        times["plain"].append(time.perf_counter() - started)
        times["encode"].append(encoding_seconds(encoders, config.batch * config.accumulate))
    return times


def summary(times: dict[str, list[float]]) -> dict[str, float]:
    """Return medians, without the first two steps, which warm up."""
    medians = {name: statistics.median(seconds[2:]) for name, seconds in times.items()}
    ratio = statistics.median(
        a / b for a, b in zip(times["ours"][2:], times["plain"][2:], strict=True)
    )
    share = medians["encode"] / (medians["encode"] + medians["ours"])
    return medians | {"ours / plain": ratio, "share of the time that stored embeddings save": share}


def plain_step(
    model: ConditionedLlama,
    optimizer: torch.optim.Optimizer,
    batches: list[Batch],
    device: torch.device,
) -> None:
    for batch in batches:
        batch = batch.to(device)
        loss = model(batch.ids, batch.labels, batch.embedding) / len(batches)
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def encoding_seconds(encoders: ImageBind, count: int) -> float:
    """Measure how many seconds a step would need to encode its pictures if embeddings were not
    stored.
    """
    vision = encoders.config.vision
    assert vision is not None
    device = next(encoders.parameters()).device
    pictures = torch.randn(count, 3, vision.image_size, vision.image_size, device=device)
    started = time.perf_counter()
    encoders.unit("vision", pictures)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
