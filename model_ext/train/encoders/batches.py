"""What a step sees: a function of the seed and the step alone, so that any step can be repeated.

Shapes: B keys in the batch.
"""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.preprocess.points import resampled
from model_ext.train.encoders import augment
from model_ext.train.encoders.samples import Samples
from model_ext.train.errors import TrainError


def generator(seed: int, step: int) -> Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


class Batches:
    """Draws keys, then for each modality one sample of each key."""

    def __init__(
        self,
        samples: Mapping[str, Samples],
        weights: Mapping[str, float],
        batch: int,
        seed: int,
    ) -> None:
        self.samples = samples
        self.rows = {modality: taken.rows() for modality, taken in samples.items()}
        # Every key has pictures, the anchor; others may be missing for some keys.
        seen = set().union(*(rows for name, rows in self.rows.items() if name != "vision"))
        self.keys = sorted(self.rows["vision"].keys() & seen if seen else self.rows["vision"])
        if len(self.keys) < 2:
            raise TrainError("the list needs at least two keys that have an image and something")
        self.weights = torch.tensor([weights[key] for key in self.keys])
        self.batch = min(batch, len(self.keys))
        self.seed = seed

    def draw(self, step: int) -> tuple[list[str], Generator]:
        """The keys of a step, no two the same, and the generator of all its further chances."""
        g = generator(self.seed, step)
        chosen = torch.multinomial(self.weights, self.batch, generator=g)
        return [self.keys[i] for i in chosen.tolist()], g

    def pick(self, modality: str, keys: list[str], g: Generator) -> tuple[list[int], list[int]]:
        """(places in the batch whose key has this modality, one row for each)."""
        rows = self.rows[modality]
        draws = torch.rand(len(keys), generator=g).tolist()
        places = [place for place, key in enumerate(keys) if key in rows]
        chosen = [rows[keys[p]][int(draws[p] * len(rows[keys[p]]))] for p in places]
        return places, chosen


def varied(modality: str, data: Tensor, sizes: ImageBindConfig, g: Generator) -> Tensor:
    """Stored samples as the encoder takes them, each changed at random."""
    if modality == "vision" and sizes.vision:
        return augment.pictures(data, sizes.vision.image_size, sizes.vision.frames, g)
    if modality == "audio":
        return augment.sounds(data, g)
    if modality == "point":
        return augment.clouds(data, points_of(data, sizes), g)
    return data


def plain(modality: str, data: Tensor, sizes: ImageBindConfig) -> Tensor:
    """Stored samples as the encoder takes them, as they are."""
    if modality == "vision" and sizes.vision:
        return augment.plain_pictures(data, sizes.vision.image_size, sizes.vision.frames)
    if modality == "point":
        return data[:, resampled(data.shape[1], points_of(data, sizes))]
    return data.float()[:, None, None] if modality == "audio" else data


def points_of(data: Tensor, sizes: ImageBindConfig) -> int:
    """How many points of each stored cloud a step takes: as many as serving will."""
    return (sizes.point and sizes.point.points) or data.shape[1]
