"""`bindserve cache info|eval`: what a cache holds, and how well and fast it is searched."""

import json
from pathlib import Path
from typing import Annotated

import typer

from server.logs import fail


def info(
    folder: Annotated[Path, typer.Argument(help="A cache folder.")],
    verify: Annotated[bool, typer.Option(help="Also check the sha256 of each file.")] = True,
) -> None:
    """What a cache holds, as JSON; fails if a file is missing or damaged."""
    from cache_index.errors import CacheError
    from cache_index.manifest import check_files, read_manifest

    try:
        manifest = read_manifest(folder)
        check_files(folder, manifest, verify=verify)
    except CacheError as error:
        fail(str(error), code=1)
    typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=1))


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A cache folder.")],
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Features (M, D) to ask with, best of the modality that requests bring. Default: "
            "rows of the cache, which do not count among their own neighbors."
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=16, help="Queries, at most.")] = 500,
    top_k: Annotated[int, typer.Option(min=1, help="Neighbors that should be found.")] = 10,
    threads: Annotated[int, typer.Option(min=1, help="Of FAISS, for one batch.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the curves: a .png or .svg file.")
    ] = None,
) -> None:
    """Recall, latency and throughput, from one cell up to beyond the tuned settings (*).

    Recall is the share of the true nearest neighbors that are found. p50 and p99 are of one query
    at a time; queries/s is in batches of 16. All of search, gather and blend is counted.
    """
    from cache_index import evaluate as evaluation
    from cache_index.errors import CacheError

    try:
        measured = evaluation.evaluate(
            folder, queries=queries, count=count, top_k=top_k, threads=threads
        )
        typer.echo(evaluation.as_table(measured))
        if plot is not None:
            evaluation.plot(measured, plot, title=str(folder.name))
    except (CacheError, OSError, ValueError) as error:
        fail(str(error), code=1)
