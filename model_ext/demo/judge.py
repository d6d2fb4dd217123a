"""Judge a decoder's pictures with a classifier that does not use the encoders.

    python -m model_ext.demo.judge --decoder build/demo/decoder/decoder
        --encoders model_ext/demo/encoders --data build/demo/data
        --train-list build/demo/data/decoder.jsonl --out build/demo/judge.json

The classifier is a small convolutional network; the encoders are transformers. It learns the
concepts from the decoder's training pictures. The decoder draws from held-out pictures and voices:
with the cache, without it, and with a shuffled cache. The table has the share of drawn pictures
that the classifier names right. For comparison, it also has this share for real held-out pictures
and for the nearest cached pictures. The median correlation of pixels with the nearest training
picture shows how much the decoder copies.

Shapes: M pictures, C concepts, D embedding, S side of the decoder's pictures.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from model_ext.decoders.flow import Flow
from model_ext.decoders.flow_file import load_flow
from model_ext.demo.evaluate import HeldOut
from model_ext.demo.retrieval import enhanced, shuffled
from model_ext.demo.splits import CONCEPTS
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.image import MEAN, STD
from model_ext.imagebind.preprocess.registry import preprocess
from model_ext.train.encoders import augment
from model_ext.train.encoders.batches import generator
from model_ext.train.encoders.embed import embed as embed_stored
from model_ext.train.encoders.samples import Samples, load, read_list

STORED_SIDE = 160
BATCH = 64


class Judge(nn.Sequential):
    """Pictures (M, 3, S, S), normalised as the encoders' input -> logits (M, C)."""

    def __init__(self, classes: int = len(CONCEPTS), width: int = 32) -> None:
        def layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

        super().__init__(
            *layer(3, width, 1),
            *layer(width, 2 * width, 2),
            *layer(2 * width, 2 * width, 1),
            *layer(2 * width, 4 * width, 2),
            *layer(4 * width, 4 * width, 1),
            *layer(4 * width, 8 * width, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8 * width, classes),
        )


@dataclass(frozen=True)
class World:
    """The trained parts from which the table is computed."""

    judge: Judge
    flow: Flow
    pictures: Samples  # The training pictures.
    cached: Tensor  # Their unit embeddings (M, D).

    @property
    def side(self) -> int:
        return self.flow.config.side


def train_judge(pictures: Samples, side: int, steps: int, seed: int) -> Judge:
    """Train the classifier on varied pictures. All concepts are equally frequent."""
    torch.manual_seed(seed)
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    rows = pictures.rows()
    for step in tqdm(range(steps), "train the judge", mininterval=5):
        g = generator(seed, step)
        labels = torch.randint(len(CONCEPTS), (BATCH,), generator=g)
        draws = torch.rand(BATCH, generator=g).tolist()
        own = [rows[CONCEPTS[label]] for label in labels.tolist()]
        picks = [each[int(draw * len(each))] for each, draw in zip(own, draws, strict=True)]
        # Views are made at twice the side and then averaged, because a direct reduction would skip
        # most of the stored pixels.
        fine = augment.pictures(pictures.data[picks], 2 * side, 1, g)[:, 0, :, 0]
        inputs = F.avg_pool2d(fine, 2)
        loss = F.cross_entropy(judge(inputs), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return judge.eval()


@torch.no_grad()
def named_right(judge: Judge, pictures: Tensor, keys: tuple[str, ...]) -> float:
    """Compute the share of pictures (M, 3, S, S), with values in [0, 1], that the judge names
    right.
    """
    inputs = (pictures - MEAN[:, None, None]) / STD[:, None, None]
    names = torch.cat([judge(part).argmax(1) for part in torch.split(inputs, BATCH)]).tolist()
    right: list[bool] = [CONCEPTS[name] == key for name, key in zip(names, keys, strict=True)]
    return sum(right) / len(right)


def on_white(stored: Tensor, side: int) -> Tensor:
    """Put stored pictures (M, 4, ., .) uint8 on a white background: (M, 3, S, S) with values in [0,
    1].
    """
    rgba = stored.float() / 255
    rgb = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
    return F.interpolate(rgb, (side, side), mode="bilinear", align_corners=False, antialias=True)


def draw(flow: Flow, vectors: Tensor) -> Tensor:
    """Draw a picture of each embedding (M, D): (M, 3, S, S) in [0, 1]. Seeds are 0, 1, 2, ..."""
    generators = [Generator().manual_seed(number) for number in range(len(vectors))]
    config = flow.config
    return (flow.sample(vectors, generators, config.steps, config.guidance) + 1) / 2


def correlation(pictures: Tensor, others: Tensor) -> float:
    """For each of `pictures`, compute the largest correlation of its pixels with any of `others`.
    Returns the median of these correlations.
    """

    def standard(each: Tensor) -> Tensor:
        flat = each.flatten(1)
        return F.normalize(flat - flat.mean(1, keepdim=True), dim=1)

    return float((standard(pictures) @ standard(others).T).amax(1).median())


def table(
    world: World, held_out: Mapping[str, HeldOut], real: Samples, weight: float, seed: int
) -> dict[str, object]:
    """Compute all results, by name of the input. `real`: the held-out pictures."""
    training = on_white(world.pictures.data, world.side)
    real_pictures = on_white(real.data, world.side)
    values = shuffled(world.cached, seed)
    rows: dict[str, object] = {
        "real held-out pictures": named_right(world.judge, real_pictures, real.keys),
        "correlation of real held-out pictures": correlation(real_pictures, training),
    }
    for name, each in held_out.items():
        drawn = draw(world.flow, enhanced(each.vectors, world.cached, weight))
        control = draw(world.flow, enhanced(each.vectors, world.cached, weight, values))
        nearest = training[(each.vectors @ world.cached.T).argmax(1)]
        rows[name] = {
            "with the cache": named_right(world.judge, drawn, each.keys),
            "without the cache": named_right(
                world.judge, draw(world.flow, each.vectors), each.keys
            ),
            "shuffled cache": named_right(world.judge, control, each.keys),
            "nearest cached picture": named_right(world.judge, nearest, each.keys),
            "correlation": correlation(drawn, training),
            "samples": len(each.keys),
        }
    return rows


@torch.no_grad()
def embed(encoders: ImageBind, data: Path, sounds_each: int) -> dict[str, HeldOut]:
    """Embed the test split's pictures and voices as the server does."""
    sizes = PreprocessConfig.of(encoders.config)
    samples: dict[str, list[tuple[Tensor, str]]] = {"image": [], "audio": []}
    for row in tqdm(read_list(data / "test.jsonl"), "embed", mininterval=5):
        modality, key = row["modality"], row["key"]
        pairs = samples.get(modality)
        if pairs is None or [k for _, k in pairs].count(key) >= sounds_each:
            continue
        tensor = preprocess(modality, (data / row["path"]).read_bytes(), sizes)
        pairs.append((encoders.unit(ENCODER_OF[modality], tensor[None])[0], key))
    return {
        modality: HeldOut(torch.stack([v for v, _ in pairs]), tuple(key for _, key in pairs))
        for modality, pairs in samples.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("decoder", "encoders", "data", "train-list", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400, help="steps of the classifier's training")
    parser.add_argument("--weight", type=float, default=0.75, help="the cache's weight")
    parser.add_argument("--sounds-each", type=int, default=3, help="voices per word")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    flow, encoders = load_flow(options.decoder), ImageBind.from_folder(options.encoders)
    sizes, store = PreprocessConfig.of(encoders.config), options.out.parent / "samples"
    pictures = load(options.train_list, ["vision"], store, sizes, STORED_SIDE)["vision"]
    real = load(options.data / "test.jsonl", ["vision"], store, sizes, STORED_SIDE)["vision"]
    path = options.out.with_suffix(f".judge-{flow.config.side}.pt")
    if path.is_file():
        judge = Judge()
        judge.load_state_dict(torch.load(path, weights_only=True))
        judge.eval()
    else:
        judge = train_judge(pictures, flow.config.side, options.steps, options.seed)
        torch.save(judge.state_dict(), path)
    world = World(judge, flow, pictures, embed_stored(encoders, "vision", pictures.data))
    held_out = embed(encoders, options.data, options.sounds_each)
    results = table(world, held_out, real, options.weight, options.seed)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
