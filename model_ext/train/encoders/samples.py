"""Decode the samples of a training list once and store them as small tensors. Files are
preprocessed as in serving. The key of a sample is its concept, e.g. "penguin". This module does not
apply random variations.

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

PAD = -MEAN / STD  # The normalised value of a spectrogram's padding.
ENCODER = {"image": "vision"}  # Modality in a list -> name of its encoder.


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples of one encoder: `data` (M, ...) and M keys."""

    data: Tensor
    keys: tuple[str, ...]

    def rows(self) -> dict[str, list[int]]:
        """Return key -> rows with this key."""
        rows: dict[str, list[int]] = defaultdict(list)
        for row, key in enumerate(self.keys):
            rows[key].append(row)
        return dict(rows)


def read_list(path: Path) -> list[dict[str, Any]]:
    """Read a JSON lines list.

    Raises TrainError: when a line lacks the key, the modality, or both path and text. The message
    names the line.
    """
    if not path.is_file():
        raise TrainError(f"{path}: no such file")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            row["key"], row["modality"], row["text" if "text" in row else "path"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise TrainError(
                f"{path}:{number}: a sample needs key, modality, and path or text ({error})"
            ) from None
        rows.append(row)
    return rows


def key_weights(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Return key -> relative frequency with which training draws it: the largest `weight` of its
    samples, 1 by default.
    """
    weights: dict[str, float] = {}
    for row in rows:
        weights[row["key"]] = max(weights.get(row["key"], 0.0), float(row.get("weight", 1)))
    return weights


def load(
    path: Path, modalities: Iterable[str], store: Path, sizes: PreprocessConfig, image_side: int
) -> dict[str, Samples]:
    """Load the samples of each encoder from `store`. Decodes the files if their samples are missing
    there.

    Raises TrainError: when a file cannot be decoded, or shapes of a modality differ.
    """
    rows = read_list(path)
    sizes = replace(sizes, points=None)  # store all points; each training step samples some of them
    samples = {}
    for modality in modalities:
        own_rows = [r for r in rows if ENCODER.get(r["modality"], r["modality"]) == modality]
        if own_rows:
            keys = tuple(row["key"] for row in own_rows)
            digest = _digest(own_rows, path.parent, sizes, image_side)
            file = store / f"{modality}-{digest}.safetensors"
            if not file.is_file():
                store.mkdir(parents=True, exist_ok=True)
                data = _decode(modality, own_rows, path.parent, sizes, image_side)
                save_file({"data": data}, file)
            samples[modality] = Samples(load_file(file)["data"], keys)
    return samples


def _digest(
    rows: list[dict[str, Any]], folder: Path, sizes: PreprocessConfig, image_side: int
) -> str:
    """Hash the rows, the sizes and modification times of their files, and the encoders' sizes."""
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
        if modality == "audio":  # keep the first of three clips
            return read_audio(data, sizes, Limits())[0, 0].half()
        return preprocess(modality, data, sizes)

    tensors = []
    for row in tqdm(rows, f"decode {modality}", mininterval=10):
        where = folder / row["path"] if "path" in row else repr(row["text"])
        try:
            data = row["text"].encode() if "text" in row else (folder / row["path"]).read_bytes()
            tensors.append(read(data))
        except (OSError, DecodeError) as error:
            raise TrainError(f"{where}: {error}") from None
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise TrainError(f"{modality}: all samples must have one shape, not {sorted(shapes)}")
    return torch.stack(tensors)


def read_picture(data: bytes, side: int) -> Tensor:
    """Decode to (4, side, side) uint8, with alpha, because training varies the background."""
    limits = Limits()
    image = middle_square(decode(open_image(data, limits), "RGBA"), side, limits)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
