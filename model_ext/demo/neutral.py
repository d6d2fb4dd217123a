"""Train the bind network so that the zero image, which represents "no attachment", has almost no
influence on answers.

    python -m model_ext.demo.neutral --run build/demo/finetune --out build/demo/neutral

Requests without attachments use the embedding of the zero image, a picture in the mean color. A
bind network that was trained on pictures maps it to a vector that changes the language model as
much as a real picture. This program trains the bind network to map the zero image to the vector
with the smallest injected terms, and to keep its outputs for pictures. The target vector is
computed by least squares, without running the language model.

Shapes: M pictures' embeddings, D embedding, C hidden, H heads, KV value heads, d head size,
q injected layers.
"""

import argparse
import copy
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from model_ext.bind import BindNetwork
from model_ext.demo.evaluate import open_model
from model_ext.imagebind.dtype import zero_image
from model_ext.imagebind.subset import load_encoders
from model_ext.inject import gated_heads
from model_ext.train.config import TrainConfig
from model_ext.train.data.embeddings import SINGLE_WEIGHT, embed_pictures
from model_ext.train.data.examples import distinct_pictures, read_examples
from model_ext.train.export import read_settings
from model_ext.train.lm.base import ADAPTER_FILE, SETTINGS_FILE
from model_ext.train.lm.layers import DecoderLayer
from model_ext.train.lm.model import ConditionedLlama

STEPS, BATCH, RATE, WARMUP = 80, 64, 3e-4, 10
NOISE = 0.03  # The standard deviation of the noise that is added to training embeddings.
RIDGE = 1e-3  # The ridge term of the least squares, relative to the mean of the matrix's diagonal.
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    settings = read_settings(options.run)
    config = TrainConfig.of(settings["config"], settings["phase"])
    model = open_model(options.run).model
    zero = zero_image(load_encoders(config.encoders, ["vision"])) * SINGLE_WEIGHT
    before = strength(model, zero)
    movement = teach(model.bind, pictures(config), zero, neutral_vector(model))
    after = strength(model, zero)
    print(f"norm of what an image of zeros adds to the layers: {before:.3g} -> {after:.3g}")
    print(f"mean change of the bind network's outputs for pictures: {movement:.1%} of their norm")
    tensors = load_file(options.run / ADAPTER_FILE)
    tensors |= {f"bind.{name}": tensor for name, tensor in model.bind.state_dict().items()}
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, options.out / ADAPTER_FILE, metadata={"format": "pt"})
    shutil.copy(options.run / SETTINGS_FILE, options.out / SETTINGS_FILE)


def pictures(config: TrainConfig) -> Tensor:
    """Embed all views of the run's training pictures. Returns (M, D)."""
    examples = [
        example
        for source in config.data
        for example in read_examples(source, config.media_root, config.turns, config.image_mark)
    ]
    sources, _ = distinct_pictures(examples)
    vectors = embed_pictures(
        sources,
        config.encoders,
        config.embedding_cache or config.out / "embeddings",
        config.image_views,
        config.seed,
        config.workers,
        CPU,
    )
    return torch.from_numpy(vectors.copy()).flatten(0, 1) * SINGLE_WEIGHT


@torch.no_grad()
def injected(model: ConditionedLlama) -> tuple[Tensor, Tensor]:
    """Return A (q C, C) and c (q C,).

    For an output b (C,) of the bind network, the injected terms of all layers are A b + c.
    """
    queries = model.injection.query
    assert queries is not None, "only the value form has queries"
    maps, constants = [], []
    for query, (number, gate) in zip(queries, model.injection.gate.items(), strict=True):
        layer = model.model.layers[int(number)]
        assert isinstance(layer, DecoderLayer)
        attention = layer.self_attn
        value = attention.v_proj.weight  # shape (KV*d, C)
        one_hot = torch.eye(len(value))
        heads = gated_heads(one_hot, gate.flatten(), model.sizes.head_dim)  # shape (KV*d, H*d)
        lora_a, lora_b = attention.o_proj.lora_a, attention.o_proj.lora_b
        output: Tensor = attention.o_proj.weight
        if lora_a is not None and lora_b is not None:
            output = output + lora_b @ lora_a
        maps.append(output @ heads.mT @ value)
        constants.append(maps[-1] @ query)
    return torch.cat(maps), torch.cat(constants)


def neutral_vector(model: ConditionedLlama) -> Tensor:
    """Solve A b + c = 0 for b (C,) by least squares."""
    terms, constant = (part.double() for part in injected(model))
    gram = terms.T @ terms
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    solution: Tensor = torch.linalg.solve(gram + ridge, -terms.T @ constant)
    return solution.float()


@torch.no_grad()
def strength(model: ConditionedLlama, embedding: Tensor) -> float:
    """Return the norm of all terms that an embedding (D,) adds to the layers."""
    terms, constant = injected(model)
    return float((terms @ model.bind(embedding[None])[0] + constant).norm())


def teach(bind: BindNetwork, images: Tensor, zero: Tensor, target: Tensor, seed: int = 0) -> float:
    """Train `bind` in place to map `zero` (D,) to `target` (C,) and to keep its other outputs.

    Returns the mean change of the outputs for `images` (M, D), relative to their norm.
    """
    before = copy.deepcopy(bind).requires_grad_(False)
    bind.requires_grad_(True)
    optimizer = torch.optim.AdamW(bind.parameters(), weight_decay=0.0)
    g = torch.Generator().manual_seed(seed)
    length = before(images[:BATCH]).square().sum(1).mean()
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / STEPS)
        near = _near(images, g)
        drift = (bind(near) - before(near)).square().sum(1).mean()
        distance = (bind(zero[None])[0] - target).square().sum()
        optimizer.zero_grad()
        torch.autograd.backward((4 * drift + distance) / length)
        optimizer.step()
    with torch.no_grad():
        initial = before(images)
        return float(((bind(images) - initial).norm(dim=1) / initial.norm(dim=1)).mean())


def _near(images: Tensor, g: torch.Generator) -> Tensor:
    """Sample embeddings (B, D), mix half of them with another embedding, and add noise to all."""
    one, other = (images[torch.randint(len(images), (BATCH,), generator=g)] for _ in range(2))
    weight = torch.rand(BATCH, 1, generator=g) * (torch.rand(BATCH, 1, generator=g) < 0.5)
    noise = NOISE * torch.randn(one.shape, generator=g)
    return F.normalize((1 - weight) * one + weight * other + noise, dim=-1)


if __name__ == "__main__":
    main()
