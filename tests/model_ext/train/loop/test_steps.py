"""The loop of steps: when it writes checkpoints, and how it resumes."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from model_ext.train.loop.steps import CHECKPOINT, run_steps


@dataclass(frozen=True)
class Config:
    out: Path
    steps: int = 6
    save_seconds: float = 1e9


@dataclass
class Digits:
    """A trainer whose weight lists the steps that changed it."""

    weight: torch.Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    fails_at: int | None = None

    def step(self, step: int) -> dict[str, float]:
        if step == self.fails_at:
            raise RuntimeError("killed")
        self.weight = self.weight * 10 + step
        return {"loss": float(step)}

    def state(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def load_state(self, state: dict[str, Any]) -> None:
        self.weight = state["weight"]


def logged(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_run_until_a_step_resumes_at_the_next_step(tmp_path: Path) -> None:
    config = Config(tmp_path)
    run_steps(Digits(), config, until=3)
    resumed = Digits()
    run_steps(resumed, config)
    assert resumed.weight == 12345
    assert logged(tmp_path) == list(range(6))
    run_steps(resumed, config)  # the run is complete
    assert resumed.weight == 12345


@pytest.mark.parametrize(("save_seconds", "saved"), [(0, [1, 2, 3]), (1e9, [3])])
def test_checkpoints_are_written_after_save_seconds_and_at_the_end(
    tmp_path: Path, save_seconds: float, saved: list[int]
) -> None:
    counts: list[int] = []

    def note_checkpoint(step: int, _: object) -> None:
        state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
        assert state["step"] == step + 1
        counts.append(state["step"])

    run_steps(Digits(), Config(tmp_path, 3, save_seconds), None, note_checkpoint)
    assert counts == saved


def test_a_killed_run_repeats_the_steps_after_its_checkpoint(tmp_path: Path) -> None:
    run_steps(Digits(), Config(tmp_path), until=2)
    with pytest.raises(RuntimeError, match="killed"):
        run_steps(Digits(fails_at=4), Config(tmp_path))
    # the beginning of a checkpoint that the killed run did not complete
    (tmp_path / CHECKPOINT).with_suffix(".new").write_bytes(b"PK")
    resumed = Digits()
    run_steps(resumed, Config(tmp_path))
    assert resumed.weight == 12345
    assert logged(tmp_path) == list(range(6))
