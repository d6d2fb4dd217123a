"""`bindserve embed MODEL FILE...`: one unit vector a file, from the model's encoders alone.

The vectors are those that a request with the one file would be conditioned on, before weights and
the cache; as features they build a cache.
"""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from server.cli.serve import load_settings
from server.logs import fail

if TYPE_CHECKING:
    from server.settings import Settings


HEAD = 1 << 16  # bytes that tell what a file is


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
    model: Annotated[Path, typer.Argument(help="A folder that `convert` or `train export` wrote.")],
    files: Annotated[list[Path], typer.Argument(help="Media of any kind, told by their content.")],
    format: Annotated[
        Format, typer.Option(help="npy: an array (files, numbers); json: with names.")
    ] = Format.json,
    modality: Annotated[
        Modality | None,
        typer.Option(help="What all files are. Needed for depth, thermal and imu."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: standard output.")] = None,
) -> None:
    """Embed files: one unit vector each, in their order."""
    settings = load_settings(model=model)
    if format is Format.npy and out is None and sys.stdout.isatty():
        fail("an array is no text for a terminal; say --out or --format json", code=2)
    found = embed_all(settings, [(path, modality or kind_of(path)) for path in files])
    if out is None:
        write(found, format, sys.stdout.buffer)
    else:
        with out.open("wb") as file:
            write(found, format, file)


def kind_of(path: Path) -> str:
    """The modality that the content, or the name, tells."""
    from model_ext.imagebind.preprocess.sniff import sniff

    try:
        with path.open("rb") as file:
            kind = sniff(file.read(HEAD), path.name)
    except OSError as error:
        fail(f"{path}: {error.strerror}", code=1)
    if kind is None:
        fail(f"{path}: of no known kind; say --modality", code=1)
    return kind


def read(path: Path, most: int) -> bytes:
    """All of the file, unless it is larger than `most` bytes."""
    try:
        if (size := path.stat().st_size) > most:
            fail(f"{path}: {size} bytes, more than the {most} allowed", code=1)
        return path.read_bytes()
    except OSError as error:
        fail(f"{path}: {error.strerror}", code=1)


def embed_all(settings: "Settings", files: list[tuple[Path, str]]) -> list[tuple[Path, str, Any]]:
    """(path, modality, unit vector (D,) float32) of each. Loads the encoders that it needs."""
    import torch

    from model_ext.errors import ConfigError
    from model_ext.imagebind.config import ENCODER_OF
    from model_ext.imagebind.model import TensorError
    from model_ext.imagebind.preprocess.config import PreprocessConfig
    from model_ext.imagebind.preprocess.errors import DecodeError
    from model_ext.imagebind.preprocess.registry import preprocess
    from model_ext.imagebind.subset import load_encoders
    from server.encoding.components import ENCODERS, choose_device

    device = choose_device(settings.encode_device)
    try:
        encoders = load_encoders(
            settings.model / ENCODERS, {ENCODER_OF[modality] for _, modality in files}, device
        )
    except (ConfigError, TensorError, OSError) as error:
        fail(str(error), code=1)
    config = PreprocessConfig.of(encoders.config)
    found = []
    for path, modality in files:
        data = read(path, settings.limits.bytes_of(modality))
        try:
            inputs = preprocess(modality, data, config, settings.limits)
        except DecodeError as error:
            fail(f"{path}: {error}", code=1)
        with torch.inference_mode():
            unit = encoders.unit(ENCODER_OF[modality], inputs[None].to(device))[0]
        found.append((path, modality, unit.cpu().numpy()))
    return found


def write(found: list[tuple[Path, str, Any]], format: Format, file: BinaryIO) -> None:
    import numpy as np

    if format is Format.npy:
        np.save(file, np.stack([vector for _, _, vector in found]))
        return
    rows = [
        {"file": str(path), "modality": modality, "embedding": vector.tolist()}
        for path, modality, vector in found
    ]
    file.write(json.dumps(rows, indent=1).encode() + b"\n")
    file.flush()
