"""`bindserve doctor MODEL`: is the folder what was converted, and does it answer as it did?"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from server.cli.serve import load_settings


class Through(StrEnum):
    engine = "engine"
    plain = "plain"


def doctor(
    model: Annotated[Path, typer.Argument(help="A folder that `convert` or `train export` wrote.")],
    cache: Annotated[
        str | None, typer.Option(help="A cache folder, or `none`. Default: the model's own.")
    ] = None,
    through: Annotated[
        Through,
        typer.Option(
            help="Who repeats the recorded answers: vLLM, in the memory that serving takes, or a "
            "slow reference, one layer at a time."
        ),
    ] = Through.engine,
) -> None:
    """Check a model's files, tensors, encoders, cache and recorded answers: one line each.

    Ends with 1 if anything is wrong. What cannot be checked is told and is no failure.
    """
    settings = load_settings(model=model, cache=cache)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # one line a check
    from server.cli.model.checkup import (  # imports torch and, for some checks, vLLM
        Patient,
        examine,
    )

    failed = False
    for finding in examine(Patient(settings), through.value):
        typer.echo(f"{finding.verdict:<4}  {finding.check:<10}  {finding.text}")
        failed |= finding.verdict == "FAIL"
    if failed:
        raise typer.Exit(1)
