"""The loop of a training run in a single process: steps, their log, and checkpoints.

A run that is started again resumes from its last checkpoint. This module does not depend on what is
trained.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from model_ext.train.loop.journal import Journal

CHECKPOINT = "checkpoint.pt"


class Trainer(Protocol):
    """A model and its optimisers. The random numbers of a step must depend only on the step's
    number and the seed, so that a resumed run gives the weights of an uninterrupted run.
    """

    def step(self, step: int) -> dict[str, float]:
        """Update the weights. Returns numbers for the log."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the tensors and numbers of a checkpoint, without code."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class RunConfig(Protocol):
    @property
    def out(self) -> Path: ...
    @property
    def steps(self) -> int: ...
    @property
    def save_seconds(self) -> float: ...


def run_steps(
    trainer: Trainer,
    config: RunConfig,
    until: int | None = None,
    after_save: Callable[[int, Journal], None] | None = None,
) -> None:
    """Train from the last checkpoint, if there is one, to the last step or to step `until`.

    Writes a checkpoint after the last step and every `save_seconds`. After each checkpoint, calls
    `after_save` with the number of the step.
    """
    path = config.out / CHECKPOINT
    first = _restore(trainer, path) if path.is_file() else 0
    last = config.steps if until is None else min(until, config.steps)
    saved_at = time.monotonic()
    with Journal(config.out, config.steps, first) as journal:
        for step in range(first, last):
            started = time.monotonic()
            numbers = trainer.step(step)
            journal.step(step, numbers | {"seconds": time.monotonic() - started})
            if step + 1 == last or time.monotonic() - saved_at > config.save_seconds:
                _save(trainer, path, step + 1)
                if after_save is not None:
                    after_save(step, journal)
                saved_at = time.monotonic()


def _save(trainer: Trainer, path: Path, step: int) -> None:
    """Write a temporary file and rename it, so that a killed run keeps a complete checkpoint."""
    temporary = path.with_suffix(".new")
    torch.save({"step": step, **trainer.state()}, temporary)
    os.replace(temporary, path)


def _restore(trainer: Trainer, path: Path) -> int:
    """Load a checkpoint and return the next step. Does not run code in the file."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    trainer.load_state(state)
    return int(state["step"])
