"""`bindserve cache build|info`: retrieval caches from features, and what a cache holds."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cache_index.build import build_from_features
from cache_index.errors import CacheError
from cache_index.manifest import check_files, read_manifest
from server.cli.serve import fail

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def cache() -> None:
    """Build and inspect retrieval caches."""


@app.command()
def build(
    features: Annotated[Path, typer.Argument(help="Image features: an .npy file (N, D).")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    captions: Annotated[
        Path | None, typer.Option(help="One caption a row: .txt, or .jsonl with caption and id.")
    ] = None,
    kind: Annotated[str, typer.Option(help="FAISS factory string, or auto.")] = "auto",
    encoder_sha256: Annotated[
        str | None, typer.Option(help="sha256 of the encoder's weights that gave the features.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite")] = False,
) -> None:
    """Build a cache folder from features."""
    try:
        manifest = build_from_features(
            features,
            out,
            captions=captions,
            kind=kind,
            encoder={"sha256": encoder_sha256} if encoder_sha256 else None,
            overwrite=overwrite,
        )
    except CacheError as error:
        fail(str(error), code=1)
    typer.echo(f"{out}: {manifest.count} vectors of {manifest.dimension} numbers, {manifest.kind}")


@app.command()
def info(
    folder: Annotated[Path, typer.Argument(help="A cache folder.")],
    verify: Annotated[bool, typer.Option(help="Also check the sha256 of each file.")] = True,
) -> None:
    """What a cache holds, as JSON; fails if a file is missing or damaged."""
    try:
        manifest = read_manifest(folder)
        check_files(folder, manifest, verify=verify)
    except CacheError as error:
        fail(str(error), code=1)
    typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=1))
