"""Where a run tells what it does: a progress bar, TensorBoard, and one JSON line a step.

Knows numbers by name. Does not know what they mean. Only the first process of a run has one.
"""

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class Journal:
    """A context manager; after a resume it goes on behind the step that is resumed."""

    def __init__(self, folder: Path, steps: int, first_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        _forget(self.path, first_step)
        self._lines = self.path.open("a", buffering=1)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
        self._bar = tqdm(total=steps, initial=first_step, mininterval=5, dynamic_ncols=True)

    def step(self, step: int, numbers: dict[str, float]) -> None:
        self._lines.write(json.dumps({"step": step, **numbers}) + "\n")
        for name, number in numbers.items():
            self._board.add_scalar(name, number, step)
        self._bar.set_postfix({name: f"{number:.4g}" for name, number in numbers.items()})
        self._bar.update()

    def note(self, step: int, numbers: dict[str, float]) -> None:
        """Something beside the steps, such as a validation."""
        self._lines.write(json.dumps({"step": step, **numbers}) + "\n")
        for name, number in numbers.items():
            self._board.add_scalar(name, number, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._board.close()
        self._lines.close()


def _forget(path: Path, first_step: int) -> None:
    """Drop the lines of steps that will be made again, and a line that was cut off."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] < first_step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    path.write_text("".join(kept))
