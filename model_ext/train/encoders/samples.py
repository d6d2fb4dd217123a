"""The samples of a list, decoded once and kept as small tensors.

Reads the same bytes in the same way as serving does. Does not know how samples are varied.
Shapes: M samples of a modality.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from model_ext.imagebind.preprocess.audio import MEAN, STD, read_audio
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.image import decode, middle_square, open_image
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.registry import preprocess
from model_ext.train.errors import TrainError

PAD = -MEAN / STD  # what a padded cell of a spectrogram holds after normalising
ENCODER = {"image": "vision"}  # a list says image, the encoder is called vision


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples of one encoder: `data` (M, ...), and whose key each is."""

    data: Tensor
    keys: tuple[str, ...]

    def rows(self) -> dict[str, list[int]]:
        """Key -> the rows that have it."""
        rows: dict[str, list[int]] = defaultdict(list)
        for row, key in enumerate(self.keys):
            rows[key].append(row)
        return dict(rows)


def read_list(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON lines list. TrainError names the line."""
    if not path.is_file():
        raise TrainError(f"{path}: no such file")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            row["key"], row["modality"], row["text" if "text" in row else "path"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise TrainError(
                f"{path}:{number}: needs key, modality, and path or text ({error})"
            ) from None
        rows.append(row)
    return rows


def key_weights(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """How often each key is drawn, relative to the others: its largest `weight`, or 1."""
    weights: dict[str, float] = {}
    for row in rows:
        weights[row["key"]] = max(weights.get(row["key"], 0.0), float(row.get("weight", 1)))
    return weights


def load(
    path: Path, modalities: Iterable[str], store: Path, sizes: PreprocessConfig, image_side: int
) -> dict[str, Samples]:
    """The samples of each encoder, from `store` if they were decoded before."""
    rows = read_list(path)
    sizes = replace(sizes, points=None)  # all are kept; a step draws some of them
    loaded = {}
    for modality in modalities:
        mine = [row for row in rows if ENCODER.get(row["modality"], row["modality"]) == modality]
        if mine:
            keys = tuple(row["key"] for row in mine)
            kept = store / f"{modality}-{_digest(mine, path.parent, sizes, image_side)}.safetensors"
            if not kept.is_file():
                store.mkdir(parents=True, exist_ok=True)
                data = _decode(modality, mine, path.parent, sizes, image_side)
                save_file({"data": data}, kept)
            loaded[modality] = Samples(load_file(kept)["data"], keys)
    return loaded


def _digest(
    rows: list[dict[str, Any]], folder: Path, sizes: PreprocessConfig, image_side: int
) -> str:
    """Changes when a sample, its file's size or date, or a size of the encoders changes."""
    digest = hashlib.sha256(f"{sizes} {image_side}".encode())
    for row in rows:
        digest.update(json.dumps(row).encode())
        if "path" in row and (folder / row["path"]).is_file():
            stat = (folder / row["path"]).stat()
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _decode(
    modality: str,
    rows: list[dict[str, Any]],
    folder: Path,
    sizes: PreprocessConfig,
    image_side: int,
) -> Tensor:
    def read(data: bytes) -> Tensor:
        if modality == "vision":
            return read_picture(data, image_side)
        if modality == "audio":  # the first clip; a short sound has three equal ones
            return read_audio(data, sizes, Limits())[0, 0].half()
        return preprocess(modality, data, sizes)

    decoded = []
    for row in tqdm(rows, f"decode {modality}", mininterval=10):
        where = folder / row["path"] if "path" in row else repr(row["text"])
        try:
            data = row["text"].encode() if "text" in row else (folder / row["path"]).read_bytes()
            decoded.append(read(data))
        except (OSError, DecodeError) as error:
            raise TrainError(f"{where}: {error}") from None
    shapes = {tuple(tensor.shape) for tensor in decoded}
    if len(shapes) > 1:
        raise TrainError(f"{modality}: samples differ in shape: {sorted(shapes)}")
    return torch.stack(decoded)


def read_picture(data: bytes, side: int) -> Tensor:
    """(4, side, side) uint8: with its transparency, so that the ground can be varied."""
    limits = Limits()
    image = middle_square(decode(open_image(data, limits), "RGBA"), side, limits)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
