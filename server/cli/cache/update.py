"""`bindserve cache add|remove|shuffle`: change a cache without training its index again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.logs import fail

if TYPE_CHECKING:
    from cache_index.manifest import Manifest

RELOAD = "running servers use the old version until POST /v1/reload or a restart"


def add(
    folder: Annotated[Path, typer.Argument(help="A cache folder.")],
    features: Annotated[
        Path, typer.Argument(help=".npy or .safetensors (N, D), or a folder of them.")
    ],
    captions: Annotated[
        Path | None,
        typer.Option(
            help="Captions, one line per row: .txt or .jsonl. Default: the .jsonl beside each file."
        ),
    ] = None,
    normalize: Annotated[bool, typer.Option(help="Scale rows to unit length.")] = True,
) -> None:
    """Append features, which must come from the same encoder.

    The index's cells and the search settings do not change. If many new rows differ from the old
    ones, recall may fall: measure it with `bindserve cache eval` and build the cache again.
    """
    from cache_index.errors import CacheError
    from cache_index.update import add_features

    try:
        manifest = add_features(folder, features, captions=captions, normalized=normalize)
    except CacheError as error:
        fail(str(error), code=1)
    report(folder, manifest)


def remove(
    folder: Annotated[Path, typer.Argument(help="A cache folder.")],
    id: Annotated[
        list[str] | None, typer.Option(help="Remove the rows with this id. May be repeated.")
    ] = None,
    row: Annotated[
        list[int] | None, typer.Option(help="Remove the row with this number. May be repeated.")
    ] = None,
    ids_file: Annotated[
        Path | None, typer.Option(help="File with ids to remove, one per line.")
    ] = None,
) -> None:
    """Remove features. The row numbers after a removed row decrease; ids do not change."""
    from cache_index.errors import CacheError
    from cache_index.update import find_rows, remove_rows

    try:
        ids = [*(id or ()), *(ids_file.read_text().split("\n") if ids_file else ())]
        rows = {*(row or ()), *find_rows(folder, [each for each in ids if each])}
        if not rows:
            fail("nothing to remove; add --id, --ids-file or --row", code=2)
        manifest = remove_rows(folder, rows)
    except (CacheError, OSError, UnicodeDecodeError) as error:
        fail(str(error), code=1)
    report(folder, manifest)


def shuffle(
    folder: Annotated[Path, typer.Argument(help="A cache folder.")],
    out: Annotated[Path, typer.Option(help="Cache folder to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the permutation.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the cache in --out.")
    ] = False,
) -> None:
    """Write a copy of a cache with the same index but permuted vectors, for control runs.

    If answers with the copy are as good as with the original cache, the cache's content does not
    improve the answers. A server with the copy finds the same neighbors (if the index is not
    compressed), but mixes in the vectors of other rows. It searches on the CPU.
    """
    from cache_index.errors import CacheError
    from cache_index.shuffle import shuffle as write_shuffled

    try:
        manifest = write_shuffled(folder, out, seed=seed, overwrite=overwrite)
    except (CacheError, OSError) as error:
        fail(str(error), code=1)
    typer.echo(f"{out}: {manifest.count} vectors in another order than in {folder}")


def report(folder: Path, manifest: "Manifest") -> None:
    typer.echo(f"{folder}: {manifest.count} vectors now; {RELOAD}")
