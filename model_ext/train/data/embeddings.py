"""Frozen embeddings of all pictures, encoded once and kept on disk.

Pictures are read and decoded in worker processes. A later run, or the next epoch, finds the
vectors and needs no encoder. Knows pictures and the encoder; knows no text.

Shapes: M pictures, A views of each, D embedding.
"""

import hashlib
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
SINGLE_WEIGHT = 1 / 1.000001  # what mixing makes of the weight of a single input


class PictureViews(Dataset[Tensor]):
    """Views (A, 3, S, S) of each picture: the first as at inference, the others random crops."""

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
    """Changes with the encoder's weights, the list of pictures, or their sizes and dates."""
    digest = hashlib.sha256(f"{views} {seed}".encode())
    digest.update((encoders / "config.json").read_bytes())
    with (encoders / "model.safetensors").open("rb") as weights:
        digest.update(hashlib.file_digest(weights, "sha256").digest())
    for picture in pictures:
        stat = picture.path.stat() if picture.path.is_file() else None
        mark = f"{stat.st_size} {stat.st_mtime_ns}" if stat else ""
        digest.update(f"{picture.path} {picture.offset} {mark}".encode())
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
    """Unit vectors (M, A, D), mapped from `folder`; encoded first if they are not there."""
    path = folder / f"image-{fingerprint(pictures, encoders, views, seed)}.npy"
    if not path.is_file():
        model = ImageBind.from_folder(encoders, device)
        vectors = _encode(PictureViews(pictures, views, _sizes(model), seed), model, workers)
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new.npy")
        np.save(beside, vectors)
        beside.replace(path)
    kept: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return kept


@torch.no_grad()
def _encode(views: PictureViews, model: ImageBind, workers: int) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    loader = DataLoader(views, batch_size=BATCH, num_workers=workers)
    parts = []
    for batch in tqdm(loader, "encode images", mininterval=5):
        flat = model.unit("vision", batch.flatten(0, 1).to(device))
        parts.append(flat.view(*batch.shape[:2], -1).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 1, model.config.embed_dim), np.float32)


@torch.no_grad()
def zero_image(encoders: Path, device: torch.device) -> Tensor:
    """What a text-only sample sees (D,): the embedding of a picture of the mean colour."""
    model = ImageBind.from_folder(encoders, device)
    side = _sizes(model).image_size
    return model.unit("vision", torch.zeros(1, 3, side, side, device=device))[0].cpu()


def _sizes(model: ImageBind) -> PreprocessConfig:
    return PreprocessConfig.of(model.config)
