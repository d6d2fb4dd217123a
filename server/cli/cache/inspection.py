"""`bindserve cache info|eval`: show a cache's manifest, and measure the recall and speed of its
search.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from server.logs import fail


def info(
    folder: Annotated[Path, typer.Argument(help="A cache folder.")],
    verify: Annotated[
        bool, typer.Option(help="Also check the sha256 of each file, for which all files are read.")
    ] = True,
) -> None:
    """Print the manifest as JSON. Exits with status 1 if a file is missing or damaged."""
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
            help="Features (M, D) as queries, if possible of the modality of future requests. "
            "Default: rows of the cache; a row does not count as its own neighbor."
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=16, help="Maximum number of queries.")] = 500,
    top_k: Annotated[int, typer.Option(min=1, help="Number of neighbors per query.")] = 10,
    threads: Annotated[int, typer.Option(min=1, help="FAISS threads per batch.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Also plot the curves to a .png or .svg file.")
    ] = None,
) -> None:
    """Measure recall, latency and throughput of the search for several settings.

    The first setting searches one cell of the index; each further setting searches more cells. `*`
    marks the settings that tuning chose. Recall is the share of the true nearest neighbors that the
    search finds. p50 and p99 are latencies of single queries. queries/s is the throughput of
    batches of 16 queries. All times include search, gather (reading the neighbors' embeddings) and
    blend (mixing them).
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
