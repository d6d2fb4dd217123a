"""`bindserve bench cache|cache-scaling`: what the retrieval cache claims, measured.

NumPy's threads are settled when it is imported, so its import waits for the option.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from server.cli.cache_serve import Device
from server.cli.serve import fail

Threads = Annotated[int, typer.Option(min=1, help="Of FAISS and of BLAS, on both sides.")]
Dimension = Annotated[int, typer.Option(min=8, help="Numbers of a feature.")]
Kind = Annotated[str, typer.Option(help="As for `bindserve cache build`.")]
Target = Annotated[float, typer.Option(min=0, max=1, help="What tuning must reach, @10.")]

SIZES = (100_000, 300_000, 1_000_000, 3_000_000)


def cache(
    rows: Annotated[
        int, typer.Option(min=1000, help="Synthetic features to build from.")
    ] = 100_000,
    dimension: Dimension = 1024,
    kind: Kind = "auto",
    recall: Target = 0.98,
    threads: Threads = 1,
    clients: Annotated[int, typer.Option(min=1, help="Who ask at the same time.")] = 16,
    pairs: Annotated[int, typer.Option(min=2, help="Interleaved pairs of each ratio.")] = 5,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the cache there, or measure the one that is there.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="Features (M, D) to ask with, if the cache is not of the generator."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw recall against speed: .png or .svg.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the tuned index is searched.")] = Device.cpu,
) -> None:
    """Batching, exact search, gathering and the tuned index, each against what it must beat.

    The features come from a fixed generator and are hard on purpose: thousands of overlapping
    groups. Tuned on one stream of queries, reported on another. Minutes at 100,000 rows; at
    1,000,000 some ten minutes, 8 GB of memory and 3 GB of disk.
    """
    settle(threads)
    from cache_index.bench.run import run
    from cache_index.errors import CacheError

    if queries is not None and (folder is None or not folder.exists()):
        fail("--queries asks a cache that is there; say its --folder", code=2)
    try:
        report = run(
            rows=rows,
            dimension=dimension,
            kind=kind,
            recall=recall,
            threads=threads,
            clients=clients,
            repeats=pairs,
            folder=folder,
            queries=queries,
            device=device.value,
        )
        typer.echo(report.text())
        if plot is not None:
            if folder is None:
                fail("--plot measures the cache again; say --folder", code=2)
            title = f"{report.rows:,} x {report.dimension}, {report.kind}"
            draw(folder, queries, threads, plot, title, device)
    except (CacheError, OSError) as error:
        fail(str(error), code=1)


def cache_scaling(
    folder: Annotated[Path, typer.Option(help="For the caches, which are kept: 2.3 kB a row.")],
    rows: Annotated[
        list[int] | None,
        typer.Option(help="Repeatable. Default: 100, 300, 1000 and 3000 thousand."),
    ] = None,
    dimension: Dimension = 1024,
    kind: Kind = "auto",
    recall: Target = 0.98,
    threads: Threads = 1,
    plot: Annotated[Path | None, typer.Option(help="Also draw it: .png or .svg.")] = None,
) -> None:
    """Cost of a query, and memory of the open cache, as the number of features grows."""
    settle(threads)
    from cache_index.bench import scaling
    from cache_index.errors import CacheError

    try:
        costs = scaling.scaling(
            sorted(rows or SIZES),
            folder,
            dimension=dimension,
            kind=kind,
            recall=recall,
            threads=threads,
        )
        typer.echo(scaling.as_table(costs))
        if plot is not None:
            scaling.plot(costs, plot)
    except (CacheError, OSError) as error:
        fail(str(error), code=1)


def settle(threads: int) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)


def draw(
    folder: Path, queries: Path | None, threads: int, out: Path, title: str, device: Device
) -> None:
    """On the queries that the report is about."""
    import tempfile

    import numpy as np

    from cache_index import evaluate
    from cache_index.bench.run import QUERIES, read_queries
    from cache_index.device import Placement
    from cache_index.manifest import read_manifest

    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch) / "queries.npy"
        np.save(asked, read_queries(queries, read_manifest(folder).dimension))
        measured = evaluate.evaluate(
            folder,
            queries=asked,
            count=QUERIES,
            threads=threads,
            placement=Placement(device.value),
        )
    typer.echo("\n" + evaluate.as_table(measured))
    evaluate.plot(measured, out, title=title)
