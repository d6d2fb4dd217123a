"""The arguments that gpu_check.py gives to each step."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.gpu.rows import Rows, Size

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Arguments:
    rows: Rows
    size: Size
    work: Path  # Folder for the step's files.
    quiet: Path  # Path of a file that exists while no other step runs.

    @classmethod
    def parse(cls, description: str | None) -> "Arguments":
        return cls.of(step_parser(description).parse_args())

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Arguments":
        return cls(Rows(options.rows), options.size, options.work, options.quiet)

    @property
    def full(self) -> bool:
        return self.size == "full"

    def wait_until_quiet(self) -> None:
        """Wait until the machine runs no other step, so that timings are not disturbed."""
        while not self.quiet.exists():
            time.sleep(POLL_S)


def step_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every step has. A step may add more options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--quiet", type=Path, required=True)
    return parser
