"""Pretrain or finetune the conditioned LLaMA.

An update is one optimiser step on `accumulate` batches of every process. The batches of an update
depend only on its number and the seed, so a resumed run continues with the same losses.
"""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from model_ext.config import BindConfig
from model_ext.convert.llama import Llama
from model_ext.convert.tokenizer import find_tokenizer
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.dtype import zero_image
from model_ext.imagebind.subset import load_encoders
from model_ext.train import checkpoints, distributed, engine
from model_ext.train.config import TrainConfig
from model_ext.train.data.dataset import Batch, ConditionedText
from model_ext.train.data.embeddings import embed_pictures
from model_ext.train.data.examples import distinct_pictures, read_examples
from model_ext.train.data.order import epoch_indices
from model_ext.train.data.split import split_long
from model_ext.train.errors import TrainError
from model_ext.train.lm.base import ADAPTER_FILE, build, load_adapter, open_base
from model_ext.train.lm.model import ConditionedLlama
from model_ext.train.lm.phase import Phase, select
from model_ext.train.loop.journal import Journal
from model_ext.train.loop.schedule import learning_rate
from model_ext.train.tokenizer import open_tokenizer


def train(config: TrainConfig, phase: Phase, until: int | None = None) -> None:
    """Run a phase to its end or to update `until`. The same call resumes an interrupted run.

    Raises TrainError: when a file or a setting is invalid.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = distributed.join()
    torch.manual_seed(config.seed)
    ds = engine.settings(config, device)
    llama = open_base(config.base)
    model = make_model(llama, config, phase, engine.base_dtype(ds))
    dataset = make_dataset(config, device)
    plan = TrainingPlan.of(config, len(dataset))
    plan.announce(config, phase, model)
    ds_engine = engine.start(model, config, ds)
    first = checkpoints.resume(ds_engine, config.out)
    last = plan.updates if until is None else min(until, plan.updates)
    is_first_process = distributed.rank() == 0
    with Journal(config.out, plan.updates, first) if is_first_process else nullcontext() as journal:
        saved_at = time.monotonic()
        for update in range(first, last):
            started = time.monotonic()
            rate = plan.learning_rate(update)
            engine.set_learning_rate(ds_engine, rate)
            loss = step(ds_engine, plan.batches(update, dataset), device)
            numbers = {"loss": loss, "lr": rate, "epoch": update / plan.updates_per_epoch}
            if journal:
                norm = ds_engine.get_global_grad_norm()
                numbers |= {"grad_norm": float(norm)} if norm is not None else {}
                journal.step(update, numbers | {"seconds": time.monotonic() - started})
            count = update + 1
            is_late = (
                config.save_seconds is not None
                and time.monotonic() - saved_at > config.save_seconds
            )
            if count == last or plan.saves_after(update, config.save_epochs) or _agreed(is_late):
                checkpoints.save(ds_engine, config.out, count, config.keep_checkpoints)
                saved_at = time.monotonic()
    checkpoints.write_adapter(ds_engine, config.out, describe(config, phase, llama))


def step(ds_engine: Any, batches: Iterator[Batch], device: torch.device) -> float:
    """Run one update and return the loss, averaged over its batches and over all processes."""
    losses = []
    for batch in batches:
        batch = batch.to(device)
        loss = ds_engine(batch.ids, batch.labels, batch.embedding)
        ds_engine.backward(loss)
        ds_engine.step()  # DeepSpeed updates the weights only at the last batch of an update
        losses.append(loss.detach())
    return distributed.mean(torch.stack(losses).mean())


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Determines the number of updates, and the learning rate and the batches of each update."""

    examples: int
    batch: int
    accumulate: int
    updates_per_epoch: int
    epochs: int
    warmup: float
    split: int
    peak: float
    minimum: float
    sorts: bool
    seed: int

    @classmethod
    def of(cls, config: TrainConfig, examples: int) -> "TrainingPlan":
        world = distributed.world()
        per_epoch = examples // (world * config.split) // (config.batch * config.accumulate)
        effective = config.batch * config.accumulate * world
        if per_epoch == 0:
            raise TrainError(
                f"data: {examples} examples are too few for one update of {effective} in each of "
                f"{config.split} sub-epochs; decrease split, batch or accumulate"
            )
        return cls(
            examples=examples,
            batch=config.batch,
            accumulate=config.accumulate,
            updates_per_epoch=per_epoch,
            epochs=config.epochs,
            warmup=config.warmup_epochs,
            split=config.split,
            peak=config.base_learning_rate * effective / 256,
            minimum=config.min_learning_rate,
            sorts=config.sort_lengths,
            seed=config.seed,
        )

    @property
    def updates(self) -> int:
        return self.updates_per_epoch * self.epochs

    def learning_rate(self, update: int) -> float:
        """Return the learning rate of an update."""
        epochs = update / self.updates_per_epoch
        return learning_rate(epochs, self.warmup, self.epochs, self.peak, self.minimum)

    def batches(self, update: int, dataset: ConditionedText) -> Iterator[Batch]:
        """Yield the batches of an update for this process."""
        epoch, within = divmod(update, self.updates_per_epoch)
        numbers = epoch_indices(
            self.examples, epoch, self.split, distributed.rank(), distributed.world(), self.seed
        )
        size = self.batch * self.accumulate
        numbers = numbers[within * size : (within + 1) * size]
        if self.sorts:
            numbers.sort(key=dataset.length)
        for start in range(0, size, self.batch):
            yield dataset.batch(numbers[start : start + self.batch], epoch)

    def saves_after(self, update: int, save_epochs: int) -> bool:
        epoch, within = divmod(update + 1, self.updates_per_epoch)
        return within == 0 and epoch % save_epochs == 0

    def announce(self, config: TrainConfig, phase: Phase, model: ConditionedLlama) -> None:
        """Print the batch size, the learning rate and the number of updates."""
        if distributed.rank() != 0:
            return
        trained = [parameter for _, parameter in model.trainable()]
        effective = self.batch * self.accumulate * distributed.world()
        print(
            f"{phase} trains {len(trained)} tensors,"
            f" {sum(p.numel() for p in trained):,} parameters\n"
            f"effective batch {effective} = {self.batch} x {self.accumulate} accumulated"
            f" x {distributed.world()} processes\n"
            f"learning rate {self.peak:g} = {config.base_learning_rate:g} x {effective} / 256\n"
            f"{self.updates} updates: {self.epochs} epochs of {self.updates_per_epoch},"
            f" {self.split} per pass over {self.examples} examples",
            flush=True,
        )


def make_model(
    llama: Llama, config: TrainConfig, phase: Phase, dtype: torch.dtype
) -> ConditionedLlama:
    """Build the model from the base and `start`, and mark the tensors that the phase trains.

    Raises TrainError: when `injected_layers` or the weights of `start` do not fit the base.
    """
    sizes = llama.sizes
    injected = config.injected_layers or sizes.num_hidden_layers
    if injected > sizes.num_hidden_layers:
        raise TrainError(
            f"injected_layers: must be at most {sizes.num_hidden_layers}, the base's layers"
        )
    rank = config.lora_rank if phase == "finetune" else 0
    first_layer = sizes.num_hidden_layers - injected
    positions = max(config.max_tokens, 64)
    bind = bind_config(config, sizes.hidden_size)
    model = build(llama, bind, first_layer, rank, positions, dtype, config.injection)
    if config.start is not None:
        load_adapter(model, config.start / ADAPTER_FILE)
    select(model, phase)
    model.checkpointing = config.checkpoint_activations
    model.remembered = {} if config.remember_texts else None
    return model


def bind_config(config: TrainConfig, hidden: int) -> BindConfig:
    try:
        encoders = ImageBindConfig.from_json((config.encoders / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise TrainError(f"{config.encoders}: not an encoders' folder: {error}") from None
    return BindConfig(
        in_features=encoders.embed_dim,
        hidden_size=hidden,
        intermediate_size=config.bind_width or 4 * hidden,
        blocks=config.bind_blocks,
    )


def make_dataset(config: TrainConfig, device: torch.device) -> ConditionedText:
    """Read the examples and embed their pictures. The first process of a host encodes the pictures
    for all its processes.
    """
    examples = [
        example
        for source in config.data
        for example in read_examples(source, config.media_root, config.turns, config.image_mark)
    ]
    tokenizer = open_tokenizer(config.tokenizer or find_tokenizer(config.base))
    if config.turns == "all":
        examples = split_long(examples, tokenizer, config.max_tokens)
    pictures, _ = distinct_pictures(examples)
    cache = config.embedding_cache or config.out / "embeddings"
    if not distributed.first_on_host():
        dist.barrier()
    vectors = embed_pictures(
        pictures,
        config.encoders,
        cache,
        config.image_views,
        config.seed,
        config.workers,
        device,
    )
    if distributed.first_on_host():
        dist.barrier()
    return ConditionedText(
        examples,
        tokenizer,
        vectors,
        zero_image(load_encoders(config.encoders, ["vision"], str(device))),
        config.max_tokens,
        config.instruction_form,
        config.embedding_noise,
    )


def describe(config: TrainConfig, phase: Phase, llama: Llama) -> dict[str, Any]:
    """Return the settings that export needs in addition to the tensors."""
    return {
        "phase": phase,
        "base": str(config.base),
        "base_fingerprint": llama.fingerprint(),
        "encoders": str(config.encoders),
        "start": None if config.start is None else str(config.start),
        "config": config.model_dump(mode="json"),
    }


def _agreed(is_late: bool) -> bool:
    """Return the value of the first process in all processes, because all must save at the same
    step.
    """
    flag = torch.tensor(float(is_late))
    if dist.get_backend() == "nccl":
        flag = flag.cuda()
    dist.broadcast(flag, 0)
    return bool(flag.item())
