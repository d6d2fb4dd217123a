"""Select the samples of a training step. The seed and the step determine them, so that a step can
be repeated. A key names a concept. Samples with the same key show the same thing. Shapes: B keys in
the batch.
"""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.preprocess.cloud.read import resampled
from model_ext.train.encoders import augment
from model_ext.train.encoders.samples import Samples
from model_ext.train.errors import TrainError


def generator(seed: int, step: int) -> Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


class Batches:
    """Draws keys and, for each modality, one sample of each key."""

    def __init__(
        self,
        samples: Mapping[str, Samples],
        weights: Mapping[str, float],
        batch: int,
        seed: int,
    ) -> None:
        self.samples = samples
        self.rows = {modality: stored.rows() for modality, stored in samples.items()}
        # Each key needs at least one picture and one sample of another modality, which is aligned
        # with the picture.
        others = set().union(*(rows for name, rows in self.rows.items() if name != "vision"))
        self.keys = sorted(self.rows["vision"].keys() & others if others else self.rows["vision"])
        if len(self.keys) < 2:
            raise TrainError(
                "train_list: needs at least two keys with an image and a trained modality"
            )
        self.weights = torch.tensor([weights[key] for key in self.keys])
        self.batch = min(batch, len(self.keys))
        self.seed = seed

    def draw(self, step: int) -> tuple[list[str], Generator]:
        """Draw the distinct keys of a step. Returns the keys and the generator for the step's other
        draws.
        """
        g = generator(self.seed, step)
        numbers = torch.multinomial(self.weights, self.batch, generator=g)
        return [self.keys[i] for i in numbers.tolist()], g

    def pick(self, modality: str, keys: list[str], g: Generator) -> tuple[list[int], list[int]]:
        """Return the batch positions whose keys have samples of this modality, and one sample's row
        for each position.
        """
        rows = self.rows[modality]
        draws = torch.rand(len(keys), generator=g).tolist()
        positions = [position for position, key in enumerate(keys) if key in rows]
        picks = [rows[keys[p]][int(draws[p] * len(rows[keys[p]]))] for p in positions]
        return positions, picks


def varied(modality: str, data: Tensor, sizes: ImageBindConfig, g: Generator) -> Tensor:
    """Return the encoder's input for stored samples, each with a random variation."""
    if modality == "vision" and sizes.vision:
        return augment.pictures(data, sizes.vision.image_size, sizes.vision.frames, g)
    if modality == "audio":
        return augment.sounds(data, g)
    if modality == "point":
        return augment.clouds(data, points_of(data, sizes), g)
    return data


def plain(modality: str, data: Tensor, sizes: ImageBindConfig) -> Tensor:
    """Return the encoder's input for stored samples, without variation."""
    if modality == "vision" and sizes.vision:
        return augment.plain_pictures(data, sizes.vision.image_size, sizes.vision.frames)
    if modality == "point":
        return data[:, resampled(data.shape[1], points_of(data, sizes))]
    return data.float()[:, None, None] if modality == "audio" else data


def points_of(data: Tensor, sizes: ImageBindConfig) -> int:
    """Return the number of points to sample from each stored cloud, as the server does."""
    return (sizes.point and sizes.point.points) or data.shape[1]
