"""The transfer table: held-out pictures, sounds, shapes and clips, named by a model that was
trained on pictures alone.

    python -m model_ext.demo.evaluate --run build/demo/talk
        --encoders build/demo/pictures/encoders --data build/demo/data --out build/demo/table.json

An answer counts if it holds the concept as a whole word (one of the forms that count) and no other
concept. The cache's weight is chosen on the validation split, once for all modalities.

Shapes: M samples, D embedding.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from model_ext.demo.retrieval import enhanced, shuffled
from model_ext.demo.splits import CONCEPTS, Split
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.registry import preprocess
from model_ext.prompt import alpaca_prompt
from model_ext.train.config import TrainConfig
from model_ext.train.data.embeddings import SINGLE_WEIGHT
from model_ext.train.encoders.samples import read_list
from model_ext.train.export import read_settings
from model_ext.train.lm.base import ADAPTER_FILE, load_adapter, open_base
from model_ext.train.lm.generate import answers
from model_ext.train.lm.model import ConditionedLlama
from model_ext.train.run import make_model
from model_ext.train.tokenizer import TextTokenizer, open_tokenizer

QUESTIONS = {"pretrain": "Generate caption of this image", "finetune": "What is this?"}
MODALITIES = ("image", "audio", "point", "video")
MIX = "image + audio"
WEIGHTS = (0.25, 0.5, 0.75, 1.0)
AT_ONCE = 64
MOST_TOKENS = 8
SINGULAR = {"cherries": "cherry", "glasses": "glass", "grapes": "grape"}


@dataclass(frozen=True, slots=True)
class Held:
    """Held-out samples of one kind: embeddings (M, D) and what each shows."""

    vectors: Tensor
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Speaker:
    """A trained model with its question."""

    model: ConditionedLlama
    tokenizer: TextTokenizer
    prompt: str

    def name(self, vectors: Tensor) -> list[str]:
        parts = torch.split(vectors, AT_ONCE)
        return [
            answer
            for part in parts
            for answer in answers(self.model, self.tokenizer, self.prompt, part, MOST_TOKENS)
        ]


def named(answer: str, concept: str) -> bool:
    """Whole words: the concept is said, and no other one."""
    words = set(re.findall(r"[a-z]+", answer.lower()))
    said = {c for c in CONCEPTS if words & {c, c + "s", SINGULAR.get(c, c)}}
    return said == {concept}


def share(speaker: Speaker, held: Held, vectors: Tensor) -> float:
    found = speaker.name(vectors)
    return sum(named(a, key) for a, key in zip(found, held.keys, strict=True)) / len(found)


def table(
    speaker: Speaker,
    cached: Tensor,
    validation: Mapping[str, Held],
    test: Mapping[str, Held],
    seed: int,
    weights: Sequence[float] = WEIGHTS,
) -> dict[str, object]:
    """Shares of the test split without cache, with it, and with a shuffled one."""
    tried = {
        weight: {
            kind: share(speaker, held, enhanced(held.vectors, cached, weight))
            for kind, held in validation.items()
        }
        for weight in tqdm(weights, "cache weight")
    }
    weight = max(tried, key=lambda w: sum(tried[w].values()))
    other = shuffled(cached, seed)
    rows = {
        kind: {
            "off": share(speaker, held, held.vectors * SINGLE_WEIGHT),
            "on": share(speaker, held, enhanced(held.vectors, cached, weight)),
            "shuffled": share(speaker, held, enhanced(held.vectors, cached, weight, other)),
            "samples": len(held.keys),
        }
        for kind, held in tqdm(test.items(), "test")
    }
    return {"weight": weight, "validation": tried, "test": rows}


@torch.no_grad()
def embed(
    encoders: ImageBind, data: Path, split: Split, sounds_each: int | None
) -> dict[str, Held]:
    """All held-out samples of a split, as serving would embed them, and pictures with sounds."""
    sizes = PreprocessConfig.of(encoders.config)
    rows = [row for row in read_list(data / f"{split}.jsonl") if row["modality"] in MODALITIES]
    kept: dict[str, list[tuple[Tensor, str]]] = {modality: [] for modality in MODALITIES}
    for row in tqdm(rows, f"embed {split}", mininterval=5):
        modality, key = row["modality"], row["key"]
        taken = kept[modality]
        if sounds_each and modality == "audio" and [k for _, k in taken].count(key) >= sounds_each:
            continue
        if ENCODER_OF[modality] in encoders.modalities:
            tensor = preprocess(modality, (data / row["path"]).read_bytes(), sizes)
            taken.append((encoders.unit(ENCODER_OF[modality], tensor[None])[0], key))
    held = {
        modality: Held(torch.stack([v for v, _ in taken]), tuple(key for _, key in taken))
        for modality, taken in kept.items()
        if taken
    }
    if "audio" in held:
        sounds = dict(zip(held["audio"].keys, held["audio"].vectors, strict=True))
        pictures = held["image"]
        both = [(v + sounds[k]) / 2 for v, k in zip(pictures.vectors, pictures.keys, strict=True)]
        held[MIX] = Held(torch.stack(both), pictures.keys)
    return held


@torch.no_grad()
def embed_cache(encoders: ImageBind, data: Path) -> Tensor:
    """The pictures of the cache (M, D): those of the training styles."""
    sizes = PreprocessConfig.of(encoders.config)
    rows = [json.loads(line) for line in (data / "cache.jsonl").read_text().splitlines()]
    pictures = [preprocess("image", (data / row["path"]).read_bytes(), sizes) for row in rows]
    parts = torch.split(torch.stack(pictures), AT_ONCE)
    return torch.cat([encoders.unit("vision", part) for part in parts])


def open_speaker(run: Path) -> Speaker:
    settings = read_settings(run)
    phase = settings["phase"]
    config = TrainConfig.of(settings["config"], phase)
    llama = open_base(config.base)
    model = make_model(llama, config, phase, torch.float32)
    load_adapter(model, run / ADAPTER_FILE)
    tokenizer = open_tokenizer(config.tokenizer or config.base / "tokenizer.json")
    return Speaker(model.eval(), tokenizer, alpaca_prompt(QUESTIONS[phase]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "encoders", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--sounds-each", type=int, default=3, help="voices of a test word")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weight", type=float, help="of the cache, chosen before; not validated")
    options = parser.parse_args()
    encoders = ImageBind.from_folder(options.encoders)
    cached = embed_cache(encoders, options.data)
    weights = WEIGHTS if options.weight is None else (options.weight,)
    validation = embed(encoders, options.data, "validation", 1) if len(weights) > 1 else {}
    test = embed(encoders, options.data, "test", options.sounds_each)
    speaker = open_speaker(options.run)
    found = table(speaker, cached, validation, test, options.seed, weights)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["test"], indent=2))


if __name__ == "__main__":
    main()
