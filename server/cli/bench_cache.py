"""`bindserve bench cache|cache-scaling`: measure the retrieval cache.

The commands set the number of threads before they import NumPy, which reads it only once.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from server.cli.cache.serve import Device
from server.logs import fail

Threads = Annotated[
    int, typer.Option(min=1, help="Threads of FAISS and of BLAS, on both sides of each comparison.")
]
Dimension = Annotated[int, typer.Option(min=8, help="Width of a feature.")]
Kind = Annotated[str, typer.Option(help="Kind of index, as in `bindserve cache build --kind`.")]
Target = Annotated[float, typer.Option(min=0, max=1, help="Recall@10 that tuning must reach.")]

SIZES = (100_000, 300_000, 1_000_000, 3_000_000)


def cache(
    rows: Annotated[int, typer.Option(min=1000, help="Number of synthetic features.")] = 100_000,
    dimension: Dimension = 1024,
    kind: Kind = "auto",
    recall: Target = 0.98,
    threads: Threads = 1,
    clients: Annotated[int, typer.Option(min=1, help="Concurrent clients.")] = 16,
    pairs: Annotated[
        int, typer.Option(min=2, help="Interleaved pairs of measurements for each ratio.")
    ] = 5,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Cache folder to measure. If it does not exist, it is created and kept. Default: "
            "a temporary folder."
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Features (M, D) as queries, if --folder contains a cache that this command did "
            "not create."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also plot recall over speed to a .png or .svg file. Needs --folder."),
    ] = None,
    device: Annotated[Device, typer.Option(help="Device that searches the index.")] = Device.cpu,
) -> None:
    """Measure batching, exact search, gathering (reading the neighbors' embeddings) and the tuned
    index, and compare each with a baseline.

    The features come from a seeded generator and are difficult to search: they form thousands of
    overlapping groups. The index is tuned on one set of queries and measured on another. A run with
    100,000 rows takes minutes; 1,000,000 rows take about ten minutes, 8 GB of memory and 3 GB of
    disk.
    """
    set_threads(threads)
    from cache_index.bench.run import run
    from cache_index.errors import CacheError

    if queries is not None and (folder is None or not folder.exists()):
        fail("--queries needs an existing cache; name it with --folder", code=2)
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
                fail("--plot needs a cache that is kept; add --folder", code=2)
            title = f"{report.rows:,} x {report.dimension}, {report.kind}"
            draw(folder, queries, threads, plot, title, device)
    except (CacheError, OSError) as error:
        fail(str(error), code=1)


def cache_scaling(
    folder: Annotated[
        Path, typer.Option(help="Folder in which the caches are kept: 2.3 kB per row.")
    ],
    rows: Annotated[
        list[int] | None,
        typer.Option(
            help="Number of features. May be repeated. Default: 100000, 300000, 1000000, 3000000."
        ),
    ] = None,
    dimension: Dimension = 1024,
    kind: Kind = "auto",
    recall: Target = 0.98,
    threads: Threads = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Also plot the result to a .png or .svg file.")
    ] = None,
) -> None:
    """Measure the CPU time per query and the memory of an open cache, for several numbers of
    features.
    """
    set_threads(threads)
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


def set_threads(threads: int) -> None:
    """Set the number of threads of OpenMP and BLAS. Call this before NumPy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)


def draw(
    folder: Path, queries: Path | None, threads: int, out: Path, title: str, device: Device
) -> None:
    """Plot the recall over the speed of the search, measured with the queries of the report."""
    import tempfile

    import numpy as np

    from cache_index import evaluate
    from cache_index.bench.run import QUERIES, read_queries
    from cache_index.device import Placement
    from cache_index.manifest import read_manifest

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "queries.npy"
        np.save(path, read_queries(queries, read_manifest(folder).dimension))
        measured = evaluate.evaluate(
            folder,
            queries=path,
            count=QUERIES,
            threads=threads,
            placement=Placement(device.value),
        )
    typer.echo("\n" + evaluate.as_table(measured))
    evaluate.plot(measured, out, title=title)
