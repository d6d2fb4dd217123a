"""`bindserve cache add|remove`: change a cache without training it again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.logs import fail

if TYPE_CHECKING:
    from cache_index.manifest import Manifest

RELOAD = "who has the cache open keeps the old one until POST /v1/reload, or a restart"


def add(
    folder: Annotated[Path, typer.Argument(help="A cache folder.")],
    features: Annotated[
        Path, typer.Argument(help=".npy or .safetensors (N, D), or a folder of them.")
    ],
    captions: Annotated[
        Path | None,
        typer.Option(help="One a row: .txt, or .jsonl. Default: the .jsonl beside each file."),
    ] = None,
    normalize: Annotated[bool, typer.Option(help="Bring rows to unit length.")] = True,
) -> None:
    """Append features, which must come from the same encoder.

    The cells and the search settings stay as they are. Many rows of a new sort want a new build;
    `bindserve cache eval` tells.
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
        list[str] | None, typer.Option(help="Remove what carries this id. Repeatable.")
    ] = None,
    row: Annotated[
        list[int] | None, typer.Option(help="Remove the row of this number. Repeatable.")
    ] = None,
    ids_file: Annotated[Path | None, typer.Option(help="Ids to remove, one a line.")] = None,
) -> None:
    """Take features out. Rows after them move up, so row numbers change; ids do not."""
    from cache_index.errors import CacheError
    from cache_index.update import find_rows, remove_rows

    try:
        ids = [*(id or ()), *(ids_file.read_text().split("\n") if ids_file else ())]
        rows = {*(row or ()), *find_rows(folder, [each for each in ids if each])}
        if not rows:
            fail("nothing to remove; say --id, --ids-file or --row", code=2)
        manifest = remove_rows(folder, rows)
    except (CacheError, OSError, UnicodeDecodeError) as error:
        fail(str(error), code=1)
    report(folder, manifest)


def report(folder: Path, manifest: "Manifest") -> None:
    typer.echo(f"{folder}: {manifest.count} vectors now; {RELOAD}")
