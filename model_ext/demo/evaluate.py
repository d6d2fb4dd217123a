"""Write the transfer table: the share of held-out pictures, sounds, shapes and clips that a model
names correctly after training on pictures only.

    python -m model_ext.demo.evaluate --run build/demo/talk
        --encoders build/demo/pictures/encoders --data build/demo/data --out build/demo/table.json

An answer is correct if it contains the concept as a whole word (singular or plural) and no other
concept. The validation split determines the cache's weight, which is the same for all modalities.

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
BATCH = 64
MAX_TOKENS = 8
SINGULAR = {"cherries": "cherry", "glasses": "glass", "grapes": "grape"}


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out samples of one modality or mix: embeddings (M, D) and their M concepts."""

    vectors: Tensor
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuestionedModel:
    """A trained model with its tokenizer and one question."""

    model: ConditionedLlama
    tokenizer: TextTokenizer
    prompt: str

    def answer(self, vectors: Tensor) -> list[str]:
        """Answer the question once for each embedding (M, D)."""
        parts = torch.split(vectors, BATCH)
        return [
            answer
            for part in parts
            for answer in answers(self.model, self.tokenizer, self.prompt, part, MAX_TOKENS)
        ]


def is_correct(answer: str, concept: str) -> bool:
    """Whether the answer contains the concept as a whole word, and no other concept."""
    words = set(re.findall(r"[a-z]+", answer.lower()))
    concepts = {c for c in CONCEPTS if words & {c, c + "s", SINGULAR.get(c, c)}}
    return concepts == {concept}


def share(model: QuestionedModel, held_out: HeldOut, vectors: Tensor) -> float:
    """Return the share of correct answers if the embeddings `vectors` (M, D) condition the
    model.
    """
    texts = model.answer(vectors)
    correct = [is_correct(a, key) for a, key in zip(texts, held_out.keys, strict=True)]
    return sum(correct) / len(texts)


def table(
    model: QuestionedModel,
    cached: Tensor,
    validation: Mapping[str, HeldOut],
    test: Mapping[str, HeldOut],
    seed: int,
    weights: Sequence[float] = WEIGHTS,
) -> dict[str, object]:
    """Return the shares of correct answers on the test split: without a cache, with it, and with a
    shuffled cache.
    """
    shares = {
        weight: {
            name: share(model, held_out, enhanced(held_out.vectors, cached, weight))
            for name, held_out in validation.items()
        }
        for weight in tqdm(weights, "cache weight")
    }
    weight = max(shares, key=lambda w: sum(shares[w].values()))
    control = shuffled(cached, seed)
    rows = {
        name: {
            "off": share(model, held_out, held_out.vectors * SINGLE_WEIGHT),
            "on": share(model, held_out, enhanced(held_out.vectors, cached, weight)),
            "shuffled": share(model, held_out, enhanced(held_out.vectors, cached, weight, control)),
            "samples": len(held_out.keys),
        }
        for name, held_out in tqdm(test.items(), "test")
    }
    return {"weight": weight, "validation": shares, "test": rows}


@torch.no_grad()
def embed(
    encoders: ImageBind, data: Path, split: Split, sounds_each: int | None
) -> dict[str, HeldOut]:
    """Embed all held-out samples of a split as serving does, and mixes of pictures and sounds."""
    sizes = PreprocessConfig.of(encoders.config)
    rows = [row for row in read_list(data / f"{split}.jsonl") if row["modality"] in MODALITIES]
    samples: dict[str, list[tuple[Tensor, str]]] = {modality: [] for modality in MODALITIES}
    for row in tqdm(rows, f"embed {split}", mininterval=5):
        modality, key = row["modality"], row["key"]
        pairs = samples[modality]
        if sounds_each and modality == "audio" and [k for _, k in pairs].count(key) >= sounds_each:
            continue
        if ENCODER_OF[modality] in encoders.modalities:
            tensor = preprocess(modality, (data / row["path"]).read_bytes(), sizes)
            pairs.append((encoders.unit(ENCODER_OF[modality], tensor[None])[0], key))
    held_out = {
        modality: HeldOut(torch.stack([v for v, _ in pairs]), tuple(key for _, key in pairs))
        for modality, pairs in samples.items()
        if pairs
    }
    if "audio" in held_out:
        sounds = dict(zip(held_out["audio"].keys, held_out["audio"].vectors, strict=True))
        pictures = held_out["image"]
        mixes = [(v + sounds[k]) / 2 for v, k in zip(pictures.vectors, pictures.keys, strict=True)]
        held_out[MIX] = HeldOut(torch.stack(mixes), pictures.keys)
    return held_out


@torch.no_grad()
def embed_cache(encoders: ImageBind, data: Path) -> Tensor:
    """Embed the cache's pictures, which have training styles: (M, D)."""
    sizes = PreprocessConfig.of(encoders.config)
    rows = [json.loads(line) for line in (data / "cache.jsonl").read_text().splitlines()]
    pictures = [preprocess("image", (data / row["path"]).read_bytes(), sizes) for row in rows]
    parts = torch.split(torch.stack(pictures), BATCH)
    return torch.cat([encoders.unit("vision", part) for part in parts])


def open_model(run: Path) -> QuestionedModel:
    """Load a finished training run, and the evaluation's question for models of its phase."""
    settings = read_settings(run)
    phase = settings["phase"]
    config = TrainConfig.of(settings["config"], phase)
    llama = open_base(config.base)
    model = make_model(llama, config, phase, torch.float32)
    load_adapter(model, run / ADAPTER_FILE)
    tokenizer = open_tokenizer(config.tokenizer or config.base / "tokenizer.json")
    return QuestionedModel(model.eval(), tokenizer, alpaca_prompt(QUESTIONS[phase]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "encoders", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument(
        "--sounds-each", type=int, default=3, help="voices per word of the test split"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--weight",
        type=float,
        help="the cache's weight (default: the best on the validation split)",
    )
    options = parser.parse_args()
    encoders = ImageBind.from_folder(options.encoders)
    cached = embed_cache(encoders, options.data)
    weights = WEIGHTS if options.weight is None else (options.weight,)
    validation = embed(encoders, options.data, "validation", 1) if len(weights) > 1 else {}
    test = embed(encoders, options.data, "test", options.sounds_each)
    model = open_model(options.run)
    results = table(model, cached, validation, test, options.seed, weights)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results["test"], indent=2))


if __name__ == "__main__":
    main()
