"""Record golden.json, a model's answers to fixed inputs, and compare later answers with it.

The answers are the most probable tokens for fixed prompts and embeddings, and the vectors that the
encoders compute from fixed inputs. `bindserve convert` records the file with the float32 model of
`reference.py`. `bindserve doctor` compares the file with the answers of vLLM or of that model.
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
MAX_BYTES = 1 << 22  # maximum size of golden.json
INSTRUCTIONS = ("Describe the scene in detail.", "What do you hear?")
STEPS = 4
TOP = 5  # Number of candidate tokens recorded at each step.
NUMBERS = 16  # Number of values recorded of each encoder's vector.
ENCODER_TOLERANCE = 1e-5

# Tolerances of log-probabilities, by the dtype of the compared implementation. In bfloat16 (8 bits
# of mantissa), rounding in about 30 layers changes logits by some tenths. A missing bias changes
# them far more.
TOLERANCES = {"float32": 2e-3, "float16": 0.05, "bfloat16": 0.3}

_STRICT = ConfigDict(extra="forbid")


class GoldenError(ValueError):
    """Raised when golden.json is not valid, or the model's answers are not finite."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Step:
    """One generated token: the most probable tokens and their log-probabilities, best first."""

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
    # modality -> evenly spaced values of the embedding that its encoder computes
    encoders: dict[str, tuple[float, ...]]

    @classmethod
    def read(cls, folder: Path) -> "Golden":
        """Read golden.json. Raises FileNotFoundError, and GoldenError when it is not valid."""
        path = folder / GOLDEN
        if path.stat().st_size > MAX_BYTES:
            raise GoldenError(f"{path}: larger than {MAX_BYTES} bytes")
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise GoldenError(f"{path}: {first['loc']}: {first['msg']}") from None

    def to_json(self) -> str:
        return json.dumps(asdict(self)) + "\n"


def record(folder: Path, progress: Progress = nothing) -> Golden:
    """Compute the answers of the model in a folder.

    Holds one layer in memory at a time, and therefore reads all weights once for each of the STEPS
    tokens. Calls `progress` after each pass over the weights.

    Raises GoldenError: when the weights contain infinities or NaN.
    """
    texts = [alpaca_prompt(instruction) for instruction in INSTRUCTIONS]
    reference, ids = Reference.from_folder(folder), [tokenize(folder, text) for text in texts]
    steps: list[list[Step]] = [[] for _ in texts]
    for _ in range(STEPS):
        prompts = [
            Prompt((*start, *(step.token for step in generated)), embedding(folder, number))
            for number, (start, generated) in enumerate(zip(ids, steps, strict=True))
        ]
        for generated, logprobs in zip(steps, reference.logprobs(prompts), strict=True):
            generated.append(best(logprobs[-1]))
        progress(1)
    answers = tuple(
        Answer(text, start, tuple(each))
        for text, start, each in zip(texts, ids, steps, strict=True)
    )
    return Golden(answers, record_encoders(folder / "encoders"))


def again(folder: Path, golden: Golden) -> list[tuple[Step, ...]]:
    """Compute all steps of the recorded answers again. Reads the weights once."""
    prompts = [
        Prompt(answer.ids + answer.tokens[:-1], embedding(folder, number))
        for number, answer in enumerate(golden.answers)
    ]
    logprobs_by_answer = Reference.from_folder(folder).logprobs(prompts)
    return [
        tuple(best(row) for row in logprobs[-len(answer.steps) :])
        for answer, logprobs in zip(golden.answers, logprobs_by_answer, strict=True)
    ]


def best(logprobs: Tensor) -> Step:
    """Make the `Step` of the next token from log-probabilities (V,) of the vocabulary.

    Raises GoldenError: when a log-probability is not finite.
    """
    if not logprobs.isfinite().all():
        raise GoldenError("the model's answer is not a number: its weights hold infinities or NaN")
    values, ids = logprobs.topk(TOP)
    return Step(tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def tokenize(folder: Path, text: str) -> tuple[int, ...]:
    return tuple(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids)


def embedding(folder: Path, number: int) -> Tensor:
    """Compute the conditioning vector (D,) of a prompt with a formula instead of an encoder."""
    size = read_config(folder / "encoders").embed_dim
    return F.normalize(wave(number + 1, size)[number], dim=0)


@torch.inference_mode()
def record_encoders(folder: Path) -> dict[str, tuple[float, ...]]:
    """Compute the encoders' vectors, with one encoder in memory at a time."""
    config = read_config(folder)
    vectors = {}
    for modality in config.modalities:
        unit = load_encoders(folder, [modality]).unit(modality, probe(modality, config))[0]
        spread = torch.linspace(0, len(unit) - 1, min(NUMBERS, len(unit))).long()
        vectors[modality] = tuple(unit[spread].tolist())
    return vectors


def difference(answer: Answer, steps: Sequence[Step], tolerance: float) -> str | None:
    """Describe the first difference between computed steps and a recorded answer, or return None.

    If the two best tokens are nearly equal, either is accepted. Once the tokens differ, the later
    steps are not compared.
    """
    for number, (expected, step) in enumerate(zip(answer.steps, steps, strict=False), start=1):
        logprobs = dict(step.top)
        for token, logprob in expected.top:
            # A NaN is also a difference: `not nan <= tolerance` is true.
            if token in logprobs and not abs(logprobs[token] - logprob) <= tolerance:
                return (
                    f"step {number}: log-probability of token {token} is {logprobs[token]:.4f}, "
                    f"recorded {logprob:.4f} (tolerance {tolerance:g})"
                )
        if step.token != expected.token:
            if expected.margin <= 2 * tolerance:
                return None
            return f"step {number}: token {step.token}, recorded {expected.token}"
    if len(steps) < len(answer.steps):
        return f"{len(steps)} tokens, recorded {len(answer.steps)}"
    return None


def encoder_difference(
    expected: Mapping[str, Sequence[float]], vectors: Mapping[str, Sequence[float]]
) -> str | None:
    """Describe the first difference between computed and recorded vectors, or return None."""
    if expected.keys() != vectors.keys():
        return f"{', '.join(sorted(vectors))}, recorded {', '.join(sorted(expected))}"
    for modality, numbers in expected.items():
        errors = [abs(a - b) for a, b in zip(numbers, vectors[modality], strict=True)]
        if not all(error <= ENCODER_TOLERANCE for error in errors):  # a NaN is a difference too
            return f"{modality}: differs by {max(errors):.2g} from the recorded vector"
    return None
