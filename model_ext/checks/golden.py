"""golden.json: what a model answers to fixed prompts and fixed embeddings, written down when it is
converted, for a doctor to compare with later.

Computed by the slow reference in float32; what is compared may come from any other path. The
encoders' vectors for fixed inputs are in it too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from model_ext.checks.probe import probe, wave
from model_ext.checks.reference import Prompt, Reference
from model_ext.imagebind.subset import load_encoders, read_config
from model_ext.manifest import Progress, nothing
from model_ext.prompt import alpaca_prompt

GOLDEN = "golden.json"
LARGEST = 1 << 22  # bytes
INSTRUCTIONS = ("Describe the scene in detail.", "What do you hear?")
STEPS = 4
TOP = 5  # candidates kept at each step
NUMBERS = 16  # of each encoder's vector
ENCODER_TOLERANCE = 1e-5

# Of a log-probability, by what the other side computes in. Rounding to 8 bits of mantissa in every
# one of some 30 layers moves logits by tenths; a missing bias or condition by far more.
TOLERANCES = {"float32": 2e-3, "float16": 0.05, "bfloat16": 0.3}

_STRICT = ConfigDict(extra="forbid")


class GoldenError(ValueError):
    """A golden.json that cannot be read, or a model that gives none; the message says why."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Step:
    """One generated token: the likeliest ones with their log-probabilities, best first."""

    top: Annotated[tuple[tuple[int, float], ...], Field(min_length=2)]

    @property
    def token(self) -> int:
        return self.top[0][0]

    @property
    def margin(self) -> float:
        return self.top[0][1] - self.top[1][1]


@dataclass(frozen=True, slots=True, config=_STRICT)
class Answer:
    text: str
    ids: tuple[int, ...]
    steps: tuple[Step, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(step.token for step in self.steps)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Golden:
    answers: tuple[Answer, ...]
    encoders: dict[str, tuple[float, ...]]  # by modality, numbers spread over the unit vector

    @classmethod
    def read(cls, folder: Path) -> "Golden":
        """FileNotFoundError, or GoldenError."""
        path = folder / GOLDEN
        if path.stat().st_size > LARGEST:
            raise GoldenError(f"{path}: larger than {LARGEST} bytes")
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise GoldenError(f"{path}: {first['loc']}: {first['msg']}") from None

    def to_json(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def record(folder: Path, progress: Progress = nothing) -> Golden:
    """Of a complete model's folder. Takes a layer of memory, and STEPS passes over the weights."""
    texts = [alpaca_prompt(instruction) for instruction in INSTRUCTIONS]
    reference, ids = Reference.from_folder(folder), [tokenize(folder, text) for text in texts]
    steps: list[list[Step]] = [[] for _ in texts]
    for _ in range(STEPS):
        prompts = [
            Prompt((*start, *(step.token for step in done)), embedding(folder, number))
            for number, (start, done) in enumerate(zip(ids, steps, strict=True))
        ]
        for done, logprobs in zip(steps, reference.logprobs(prompts), strict=True):
            done.append(best(logprobs[-1]))
        progress(1)
    answers = tuple(
        Answer(text, start, tuple(done))
        for text, start, done in zip(texts, ids, steps, strict=True)
    )
    return Golden(answers, record_encoders(folder / "encoders"))


def again(folder: Path, golden: Golden) -> list[tuple[Step, ...]]:
    """The reference's steps along the recorded answers, in one pass."""
    prompts = [
        Prompt(answer.ids + answer.tokens[:-1], embedding(folder, number))
        for number, answer in enumerate(golden.answers)
    ]
    found = Reference.from_folder(folder).logprobs(prompts)
    return [
        tuple(best(row) for row in logprobs[-len(answer.steps) :])
        for answer, logprobs in zip(golden.answers, found, strict=True)
    ]


def best(logprobs: Tensor) -> Step:
    """Of log-probabilities (V,)."""
    if not logprobs.isfinite().all():
        raise GoldenError("the model's answer is not a number: its weights hold infinities or NaN")
    values, ids = logprobs.topk(TOP)
    return Step(tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def tokenize(folder: Path, text: str) -> tuple[int, ...]:
    return tuple(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids)


def embedding(folder: Path, number: int) -> Tensor:
    """A unit vector (D,) that no encoder gave: another one for each prompt."""
    size = read_config(folder / "encoders").embed_dim
    return F.normalize(wave(number + 1, size)[number], dim=0)


@torch.inference_mode()
def record_encoders(folder: Path) -> dict[str, tuple[float, ...]]:
    """One encoder in memory at a time."""
    config = read_config(folder)
    found = {}
    for modality in config.modalities:
        unit = load_encoders(folder, [modality]).unit(modality, probe(modality, config))[0]
        spread = torch.linspace(0, len(unit) - 1, min(NUMBERS, len(unit))).long()
        found[modality] = tuple(unit[spread].tolist())
    return found


def difference(answer: Answer, found: Sequence[Step], tolerance: float) -> str | None:
    """What is wrong with these steps, if anything. A near-tie may go either way, and ends it."""
    for number, (expected, step) in enumerate(zip(answer.steps, found, strict=False), start=1):
        known = dict(step.top)
        for token, logprob in expected.top:
            if token in known and not abs(known[token] - logprob) <= tolerance:  # NaN too
                return (
                    f"step {number}: log-probability of token {token} is {known[token]:.4f}, "
                    f"recorded {logprob:.4f} (tolerance {tolerance:g})"
                )
        if step.token != expected.token:
            if expected.margin <= 2 * tolerance:
                return None
            return f"step {number}: token {step.token}, recorded {expected.token}"
    if len(found) < len(answer.steps):
        return f"{len(found)} tokens, recorded {len(answer.steps)}"
    return None


def encoder_difference(
    expected: Mapping[str, Sequence[float]], found: Mapping[str, Sequence[float]]
) -> str | None:
    """What is wrong with the encoders, if anything."""
    if expected.keys() != found.keys():
        return f"{', '.join(sorted(found))}, recorded {', '.join(sorted(expected))}"
    for modality, numbers in expected.items():
        apart = [abs(a - b) for a, b in zip(numbers, found[modality], strict=True)]
        if not all(each <= ENCODER_TOLERANCE for each in apart):  # NaN is no small difference
            return f"{modality}: {max(apart):.2g} off what was recorded"
    return None
