"""The log of a training run: a progress bar, TensorBoard, and one JSON line per step.

Only the first process of a run has a journal.
"""

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class Journal:
    """A context manager that closes the log files. If a run resumes, appends to the log, beginning
    with step `first_step`.
    """

    def __init__(self, folder: Path, steps: int, first_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        _truncate(self.path, first_step)
        self._lines = self.path.open("a", buffering=1)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
        self._bar = tqdm(total=steps, initial=first_step, mininterval=5, dynamic_ncols=True)

    def step(self, step: int, numbers: dict[str, float]) -> None:
        """Log the numbers of a step and advance the progress bar."""
        self.note(step, numbers)
        self._bar.set_postfix({name: f"{number:.4g}" for name, number in numbers.items()})
        self._bar.update()

    def note(self, step: int, numbers: dict[str, float]) -> None:
        """Log numbers that do not belong to every step, such as validation accuracies."""
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


def _truncate(path: Path, first_step: int) -> None:
    """Remove the lines of step `first_step` and later steps, and an incomplete last line."""
    if not path.is_file():
        return
    lines = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] < first_step:
                lines.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    path.write_text("".join(lines))
