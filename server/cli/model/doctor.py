"""`bindserve doctor MODEL`: check that a model folder is undamaged and gives the
recorded answers.
"""

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
    model: Annotated[
        Path, typer.Argument(help="Model folder, written by `convert` or `train export`.")
    ],
    cache: Annotated[
        str | None, typer.Option(help="Cache folder, or `none`. Default: the model folder's cache.")
    ] = None,
    through: Annotated[
        Through,
        typer.Option(
            help="What answers the recorded prompts again. engine: vLLM, which needs as much "
            "memory as a server. plain: a slow reference model, which loads one layer at a time."
        ),
    ] = Through.engine,
) -> None:
    """Check a model's files, tensors, encoders, cache and recorded answers.

    Prints one line per check. Exits with status 1 if a check fails. `skip` marks a check that is
    not possible, e.g. the check of the cache for a model without a cache. A skipped check is no
    failure.
    """
    settings = load_settings(model=model, cache=cache)
    # Hides vLLM's log lines, so that only the checks print.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from server.cli.model.checkup import (  # this import loads torch and, for some checks, vLLM
        Checkup,
        run_checks,
    )

    failed = False
    for finding in run_checks(Checkup(settings), through.value):
        typer.echo(f"{finding.verdict:<4}  {finding.check:<10}  {finding.text}")
        failed |= finding.verdict == "FAIL"
    if failed:
        raise typer.Exit(1)
