"""`bindserve embed MODEL FILE...`: compute one unit vector per file with the model's encoders.

The vector of a file equals the embedding of a request with this file, before weights and retrieval
are applied. The vectors can also be the features of a retrieval cache.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from server.cli.bulk.inputs import is_bulk
from server.cli.serve import load_settings
from server.logs import fail

if TYPE_CHECKING:
    from server.settings import Settings


HEAD = 1 << 16  # The first bytes of a file, from which its modality can be determined.


class Format(StrEnum):
    json = "json"
    npy = "npy"


class Modality(StrEnum):
    image = "image"
    video = "video"
    audio = "audio"
    text = "text"
    point = "point"
    depth = "depth"
    thermal = "thermal"
    imu = "imu"


def embed(
    model: Annotated[
        Path, typer.Argument(help="Model folder, written by `convert` or `train export`.")
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Media files, or folders and lists (.tsv, .csv) of them. The content determines "
            "the modality."
        ),
    ],
    format: Annotated[
        Format | None,
        typer.Option(
            help="json (the default): a list of file, modality and embedding. npy: a float32 array "
            "(files, D). Not for folders, lists and --windows: the suffix of --out decides.",
        ),
    ] = None,
    modality: Annotated[
        Modality | None,
        typer.Option(help="Modality of all files. Required for depth, thermal and imu."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write. Default: standard output. For folders and lists: a .jsonl, .npy "
            "or .parquet file."
        ),
    ] = None,
    windows: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS[:STRIDE]",
            help="Embed sounds and videos in windows of SECONDS, which start every STRIDE seconds: "
            "one row per window with its start and end.",
        ),
    ] = None,
) -> None:
    """Embed files with a model's encoders: one unit vector per file, in the given order.

    The encoders compute in the dtype of the server (BINDSERVE_ENCODE_DTYPE; default: bfloat16 on a
    GPU that supports it, float32 on a CPU).
    """
    settings = load_settings(model=model)
    if windows is not None or is_bulk(files):
        if format is not None:
            fail("--format: for folders, lists and --windows, the suffix of --out decides", code=2)
        embed_in_bulk(settings, files, out, modality, windows)
        return
    format = format or Format.json
    if format is Format.npy and out is None and sys.stdout.isatty():
        fail("--format npy: a terminal cannot show an array; add --out or use json", code=2)
    embedded = embed_all(
        settings, [(path, modality_of(path, modality, settings)) for path in files]
    )
    if out is None:
        write(embedded, format, sys.stdout.buffer)
    else:
        with out.open("wb") as file:
            write(embedded, format, file)


def embed_in_bulk(
    settings: "Settings",
    inputs: list[Path],
    out: Path | None,
    modality: Modality | None,
    windows: str | None,
) -> None:
    """Embed folders and lists. Bad files are reported and skipped; the exit code is then 0."""
    from cache_index.errors import CacheError
    from model_ext.errors import ConfigError
    from server.cli.bulk.embedder import BulkRequest
    from server.cli.bulk.output import WRITERS
    from server.cli.bulk.run import run, skipped_list
    from server.errors import RequestError

    if out is None or out.suffix not in WRITERS:
        fail(f"folders and lists need --out with one of {', '.join(WRITERS)}", code=2)
    name = modality.value if modality else None
    request = BulkRequest(settings, tuple(inputs), out, name, parse_windows(windows))
    try:
        summary = run(request)
    except KeyboardInterrupt:
        fail("interrupted; run the same command again to resume", code=1)
    except (CacheError, ConfigError, OSError, RequestError) as error:
        fail(str(error), code=1)
    typer.echo(
        f"{out}: {summary.rows} rows of {summary.files} files, {summary.skipped} files skipped"
    )
    if summary.skipped:
        typer.echo(f"{skipped_list(out)}: the skipped files, with the reasons")


def parse_windows(text: str | None) -> tuple[float, float] | None:
    """Parse `--windows SECONDS[:STRIDE]`. Exits with status 2 on a bad value."""
    if text is None:
        return None
    seconds, _, stride = text.partition(":")
    try:
        values = float(seconds), float(stride or seconds)
    except ValueError:
        values = 0.0, 0.0
    if not all(0.1 <= value <= 3600 for value in values):
        fail(f"--windows {text}: expected seconds from 0.1 to 3600, e.g. 2 or 2:1", code=2)
    return values


def modality_of(path: Path, modality: str | None, settings: "Settings") -> str:
    """Return `modality` or, without it, the modality that the file's content and name indicate. A
    video without pictures has the modality audio. Exits with status 1 on failure.
    """
    from model_ext.imagebind.preprocess.registry import actual_modality
    from model_ext.imagebind.preprocess.sniff import sniff

    try:
        if modality is None:
            with path.open("rb") as file:
                modality = sniff(file.read(HEAD), path.name)
    except OSError as error:
        fail(f"{path}: {error.strerror}", code=1)
    if modality is None:
        fail(f"{path}: unknown file format; add --modality", code=1)
    if modality == "video":
        limit = max(settings.limits.bytes_of(each) for each in ("video", "audio"))
        with opened(path, limit) as file:
            return actual_modality(modality, file)
    return modality


@contextmanager
def opened(path: Path, max_bytes: int) -> Iterator[BinaryIO]:
    """Open a file. Exits with status 1 if it has more than `max_bytes` or cannot be read."""
    try:
        with path.open("rb") as file:
            if (size := path.stat().st_size) > max_bytes:
                fail(f"{path}: {size} bytes, more than the {max_bytes} allowed", code=1)
            yield file
    except OSError as error:
        fail(f"{path}: {error.strerror}", code=1)


def embed_all(settings: "Settings", files: list[tuple[Path, str]]) -> list[tuple[Path, str, Any]]:
    """Embed the files. Returns (path, modality, unit vector (D,) in float32) for each file."""
    import torch

    from model_ext.device import choose_device
    from model_ext.errors import ConfigError
    from model_ext.imagebind.config import ENCODER_OF
    from model_ext.imagebind.dtype import choose_dtype, torch_dtype
    from model_ext.imagebind.model import TensorError
    from model_ext.imagebind.preprocess.config import PreprocessConfig
    from model_ext.imagebind.preprocess.errors import DecodeError
    from model_ext.imagebind.preprocess.registry import decode
    from model_ext.imagebind.subset import load_encoders
    from server.encoding.components import ENCODERS

    device = choose_device(settings.encode_device)
    try:
        encoders = load_encoders(
            settings.model / ENCODERS, {ENCODER_OF[modality] for _, modality in files}, device
        )
    except (ConfigError, TensorError, OSError) as error:
        fail(str(error), code=1)
    encoders.cast(torch_dtype(choose_dtype(settings.encode_dtype, device)))
    config = PreprocessConfig.of(encoders.config)
    embedded = []
    for path, modality in files:
        try:
            with opened(path, settings.limits.bytes_of(modality)) as file:
                sample = decode(modality, file, config, settings.limits, settings.read_options)
        except DecodeError as error:
            fail(f"{path}: {error}", code=1)
        with torch.inference_mode():
            unit = encoders.unit(ENCODER_OF[modality], sample.tensor[None].to(device))[0]
        embedded.append((path, modality, unit.cpu().numpy()))
    return embedded


def write(embedded: list[tuple[Path, str, Any]], format: Format, file: BinaryIO) -> None:
    import numpy as np

    if format is Format.npy:
        np.save(file, np.stack([vector for _, _, vector in embedded]))
        return
    rows = [
        {"file": str(path), "modality": modality, "embedding": vector.tolist()}
        for path, modality, vector in embedded
    ]
    file.write(json.dumps(rows, indent=1).encode() + b"\n")
    file.flush()
