"""The embeddings of all pictures, which are computed once by the frozen encoder and stored on disk.

Worker processes read and decode the pictures. Later epochs and runs read the stored embeddings and
load no encoder. This module does not depend on the texts of the examples.

Shapes: M pictures, A views of each, S the side of the encoder's input, D embedding.
"""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.image import decode, normalize, open_image, read_image
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.train.data.crop import random_crop
from model_ext.train.data.examples import Picture
from model_ext.train.errors import TrainError

BATCH = 32
SINGLE_WEIGHT = 1 / 1.000001  # the server scales the embedding of a single file by this factor


class PictureViews(Dataset[Tensor]):
    """The views (A, 3, S, S) of each picture: the view that inference uses, and then random
    crops.
    """

    def __init__(
        self, pictures: Sequence[Picture], views: int, config: PreprocessConfig, seed: int
    ) -> None:
        self.pictures, self.views, self.config, self.seed = pictures, views, config, seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Tensor:
        data = self.pictures[index].read()
        try:
            views = [read_image(data, self.config, Limits())]
            if self.views > 1:
                image = decode(open_image(data, Limits()), "RGB")
                rng = np.random.default_rng([self.seed, index])
                crops = (
                    random_crop(image, self.config.image_size, rng) for _ in range(1, self.views)
                )
                views += [normalize(crop) for crop in crops]
        except DecodeError as error:
            raise TrainError(f"{self.pictures[index].path}: {error}") from None
        return torch.stack(views)


def fingerprint(pictures: Sequence[Picture], encoders: Path, views: int, seed: int) -> str:
    """Hash the encoders' weights, and the pictures' paths, sizes and modification times."""
    digest = hashlib.sha256(f"{views} {seed}".encode())
    digest.update((encoders / "config.json").read_bytes())
    with (encoders / "model.safetensors").open("rb") as weights:
        digest.update(hashlib.file_digest(weights, "sha256").digest())
    for picture in pictures:
        stat = picture.path.stat() if picture.path.is_file() else None
        version = f"{stat.st_size} {stat.st_mtime_ns}" if stat else ""
        digest.update(f"{picture.path} {picture.offset} {version}".encode())
    return digest.hexdigest()[:16]


def embed_pictures(
    pictures: Sequence[Picture],
    encoders: Path,
    folder: Path,
    views: int,
    seed: int,
    workers: int,
    device: torch.device,
) -> NDArray[np.float32]:
    """Return embeddings (M, A, D) of length 1, memory-mapped from a file in `folder`. If the file
    is missing, encodes the pictures, and reads the embeddings of those that have stored ones.

    Raises TrainError: when a picture cannot be read or decoded.
    """
    path = folder / f"image-{fingerprint(pictures, encoders, views, seed)}.npy"
    if not path.is_file():
        model = ImageBind.from_folder(encoders, device)
        vectors = np.zeros((len(pictures), views, model.config.embed_dim), np.float32)
        encoded = [row for row, picture in enumerate(pictures) if not picture.is_embedded]
        shown = PictureViews([pictures[row] for row in encoded], views, _sizes(model), seed)
        vectors[encoded] = _encode(shown, model, workers)
        for row, picture in enumerate(pictures):
            if picture.is_embedded:
                vectors[row] = _stored(picture, views, model.config.embed_dim)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new.npy")
        np.save(temporary, vectors)
        temporary.replace(path)
    stored: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return stored


def _stored(picture: Picture, views: int, size: int) -> NDArray[np.float32]:
    """Read a file of embeddings (A, D), and return `views` of them (repeated if it has fewer),
    scaled to length 1.

    Raises TrainError: when the file is missing or has another shape.
    """
    try:
        vectors = np.load(io.BytesIO(picture.read()))
    except ValueError as error:
        raise TrainError(f"{picture.path}: {error}") from None
    if vectors.ndim != 2 or vectors.shape[1] != size or not len(vectors):
        raise TrainError(
            f"{picture.path}: expected embeddings (views, {size}), not {vectors.shape}"
        )
    chosen = vectors[np.arange(views) % len(vectors)].astype(np.float32)
    unit: NDArray[np.float32] = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    return unit


@torch.no_grad()
def _encode(views: PictureViews, model: ImageBind, workers: int) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    loader = DataLoader(views, batch_size=BATCH, num_workers=workers)
    parts = []
    for batch in tqdm(loader, "encode images", mininterval=5):
        flat = model.unit("vision", batch.flatten(0, 1).to(device))
        parts.append(flat.view(*batch.shape[:2], -1).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 1, model.config.embed_dim), np.float32)


def _sizes(model: ImageBind) -> PreprocessConfig:
    return PreprocessConfig.of(model.config)
