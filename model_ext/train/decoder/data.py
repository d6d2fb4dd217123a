"""The pictures and embeddings that a decoder learns from, and the samples of a step.

A sample's picture and its condition belong to the same key, but not always to the same picture:
the decoder learns what the pictures of a key have in common. A condition is the embedding of one
picture or a random mix of the embeddings of the key's pictures (as retrieval from the cache
returns), with noise.

Shapes: M pictures, V views, A embeddings of a picture, B samples, D embedding, S side.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from tqdm import tqdm

from model_ext.device import choose_device
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.train.decoder.config import DecoderConfig
from model_ext.train.encoders.augment import uniform
from model_ext.train.encoders.batches import generator
from model_ext.train.encoders.embed import embed_views
from model_ext.train.encoders.samples import Samples, key_weights, load, read_list
from model_ext.train.errors import TrainError

FINER = 2  # a view is made with a side of FINER * S pixels, and is then averaged down to S pixels


@dataclass(frozen=True)
class DrawingData:
    """Views (M, V, 3, S, S) uint8, unit embeddings (M, A, D), the rows of each key's pictures, and
    the weight of each key. Views and embeddings are on the device that trains.
    """

    views: Tensor
    embeddings: Tensor
    rows: tuple[tuple[int, ...], ...]
    weights: Tensor
    noise: float

    @cached_property
    def counts(self) -> Tensor:
        """The number of pictures of each key."""
        return torch.tensor([len(rows) for rows in self.rows])

    @cached_property
    def table(self) -> Tensor:
        """The rows of each key, repeated to the largest number of pictures of a key."""
        most = int(self.counts.max())
        return torch.tensor([(rows * most)[:most] for rows in self.rows])

    def batch(self, size: int, g: Generator) -> tuple[Tensor, Tensor]:
        """Draw pictures (B, 3, S, S) in [-1, 1] and their conditions, unit vectors (B, D)."""
        keys = torch.multinomial(self.weights, size, replacement=True, generator=g)
        draws = torch.rand(size, generator=g).double()
        targets = self.table[keys, (draws * self.counts[keys]).long()]
        views = torch.randint(self.views.shape[1], (size,), generator=g)
        device = self.views.device
        pictures = self.views[targets.to(device), views.to(device)].float() / 127.5 - 1
        return pictures, self._conditions(keys, g)

    def _conditions(self, keys: Tensor, g: Generator) -> Tensor:
        """Mix the embeddings of each key's pictures at random. At a low temperature, one picture
        has almost the whole weight.
        """
        rows, device = self.table[keys], self.embeddings.device
        real = torch.arange(rows.shape[1]) < self.counts[keys, None]
        view = torch.randint(self.embeddings.shape[1], rows.shape, generator=g)
        sharpness = torch.exp(uniform((len(keys), 1), 0.0, math.log(50), g))
        scores = torch.rand(rows.shape, generator=g) * sharpness
        shares = torch.softmax(scores.masked_fill(~real, -math.inf), dim=1).to(device)
        own = self.embeddings[rows.to(device), view.to(device)]
        mixed = F.normalize((shares[..., None] * own).sum(1), dim=-1)
        length = uniform((len(keys), 1), 0, self.noise, g)
        noise = F.normalize(torch.randn(mixed.shape, generator=g), dim=-1)
        return F.normalize(mixed + (length * noise).to(device), dim=-1)


def open_data(config: DecoderConfig) -> DrawingData:
    """Read the list's pictures, make varied views of them, and embed them.

    Raises TrainError: when the list or a picture cannot be read, or no key has a picture.
    """
    encoders = ImageBind.from_folder(config.encoders).eval()
    if "vision" not in encoders.modalities:
        raise TrainError(f"{config.encoders}: has no encoder of pictures")
    sizes = PreprocessConfig.of(encoders.config)
    lines = read_list(config.train_list)
    store = config.out / "samples"
    pictures = _anchors(load(config.train_list, ["vision"], store, sizes, config.image_side), lines)
    by_key = pictures.rows()
    weights = key_weights(lines)
    numbers = tqdm(range(config.embedding_views), "embed pictures", mininterval=5)
    device = choose_device(config.device)
    return DrawingData(
        _views(pictures.data, config).to(device),
        embed_views(encoders, pictures.data, numbers, config.seed + 2).to(device),
        tuple(tuple(rows) for rows in by_key.values()),
        torch.tensor([weights[key] for key in by_key]),
        config.noise,
    )


def _anchors(stored: Mapping[str, Samples], lines: list[dict[str, object]]) -> Samples:
    """Return the list's pictures, except those with `"anchor": false`."""
    shown = [line.get("anchor", True) for line in lines if line["modality"] == "image"]
    if not any(shown):
        raise TrainError("train_list: has no picture to learn from")
    samples = stored["vision"]
    rows = [row for row, keep in enumerate(shown) if keep]
    return Samples(samples.data[rows], tuple(samples.keys[row] for row in rows))


def _views(stored: Tensor, config: DecoderConfig) -> Tensor:
    """Return views of each picture on white, (M, V, 3, S, S) uint8. The first view is unchanged,
    the others are varied.
    """
    rgba = stored.float() / 255
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
    fine = (FINER * config.side, FINER * config.side)
    rgba = F.interpolate(rgba, fine, mode="bilinear", align_corners=False, antialias=True)
    views = []
    for number in tqdm(range(config.views), "vary pictures", mininterval=5):
        g = generator(config.seed + 1, number)
        camera = _camera(len(stored), config if number else None, g)
        grid = F.affine_grid(camera, list(rgba.shape), align_corners=False)
        view = F.grid_sample(rgba, grid, padding_mode="zeros", align_corners=False)
        view = F.avg_pool2d(view, FINER)
        views.append(((view[:, :3] + 1 - view[:, 3:]) * 255).round().to(torch.uint8))
    return torch.stack(views, dim=1)


def _camera(count: int, config: DecoderConfig | None, g: Generator) -> Tensor:
    """Draw affine maps (M, 2, 3), which zoom, tilt, mirror and shift. Without `config`, all maps
    are the identity.
    """
    if config is None:
        return torch.eye(2, 3).expand(count, -1, -1)
    zoom = torch.exp(uniform((count,), -config.zoom, config.zoom, g))
    tilt = uniform((count,), -config.tilt, config.tilt, g)
    mirror = torch.where(torch.rand((count,), generator=g) < 0.5, -1.0, 1.0)
    cos, sin = tilt.cos() * zoom, tilt.sin() * zoom
    linear = torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).view(-1, 2, 2)
    shift = uniform((count, 2, 1), -config.shift, config.shift, g)
    return torch.cat([linear, shift], dim=2)
