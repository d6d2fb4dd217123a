"""What `bindserve doctor` looks at: each check says in one line what is well, or raises.

Knows a model's folder and its cache. Starts no server; `golden_engine` starts an engine.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from cache_index.enhance import Array
from cache_index.enhancer import Enhancer
from model_ext.checks.golden import (
    GOLDEN,
    TOLERANCES,
    Golden,
    GoldenError,
    Step,
    again,
    difference,
    embedding,
    encoder_difference,
    record_encoders,
    tokenize,
)
from model_ext.config import BindServeConfig
from model_ext.imagebind.model import TENSORS_FILE
from model_ext.imagebind.subset import read_config
from model_ext.manifest import MANIFEST, Manifest
from model_ext.weights.safetensors_file import open_safetensors
from server.conditioning.open_cache import fit_of, open_cache
from server.encoding.components import ENCODERS
from server.settings import Settings

ENGINE_OPTIONS = ("dtype", "kv_cache_memory_bytes")  # of serving's defaults
ROLES = ("llama", "adapter", "imagebind")  # that a conversion has sources of


class Skip(Exception):
    """There is nothing to check, which is no failure; the text says why."""


class Sick(Exception):
    """Something is wrong; the text says what."""


class Patient:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.model

    @cached_property
    def config(self) -> BindServeConfig:
        return BindServeConfig.from_hf(json.loads((self.folder / "config.json").read_bytes()))

    @cached_property
    def golden(self) -> Golden:
        try:
            return Golden.read(self.folder)
        except FileNotFoundError:
            raise Skip(f"no {GOLDEN}: `bindserve convert --golden` records answers") from None


Check = Callable[[Patient], str]


def config(patient: Patient) -> str:
    ours = patient.config
    injection = ours.injection
    return (
        f"{ours.provenance.stage} weights, {injection.form} form in {injection.layers} layers, "
        f"modalities {', '.join(ours.imagebind.modalities)}"
    )


def files(patient: Patient) -> str:
    """Reads all of the folder."""
    try:
        manifest = Manifest.read(patient.folder)
    except FileNotFoundError:
        raise Skip(f"no {MANIFEST}: nobody wrote down what the files should be") from None
    for name, reason in manifest.damaged(patient.folder):
        raise Sick(f"{name} {reason}; convert again or fetch an intact copy")
    loaded = {path.name for path in patient.folder.glob("*.safetensors")}
    if strange := sorted(loaded - manifest.files.keys()):
        raise Sick(f"{strange[0]} is not in {MANIFEST}, and would be loaded")
    return f"{len(manifest.files)} files, each with the sha256 of {MANIFEST}"


def tensors(patient: Patient) -> str:
    """Names and shapes, as vLLM wants them."""
    from model_ext.checks.shape_check import check_weights  # imports vLLM: many seconds

    return f"{check_weights(patient.folder)} tensors, names and shapes as vLLM's model has them"


def provenance(patient: Patient) -> str:
    found = patient.config.provenance
    roles = {source.role for source in found.sources}
    if lacking := [role for role in ROLES if role not in roles]:
        raise Skip(f"config.json names no source of the {lacking[0]} weights")
    fingerprint = f", base {found.base_fingerprint[:12]}" if found.base_fingerprint else ""
    shown = ", ".join(f"{source.file} {source.sha256[:12]}" for source in found.sources)
    return f"{shown}{fingerprint}"


def encoders(patient: Patient) -> str:
    """Loads one after the other and has each embed a built-in input."""
    folder = patient.folder / ENCODERS
    sizes, summary = read_config(folder), patient.config.imagebind
    if (sizes.modalities, sizes.embed_dim) != (summary.modalities, summary.embedding_dim):
        raise Sick(f"{folder} holds other encoders than config.json says")
    names = {name.split(".")[0] for name in open_safetensors(folder / TENSORS_FILE)}
    if strange := sorted(names - set(sizes.modalities)):
        raise Sick(f"{folder / TENSORS_FILE}: left over: tensors of {strange[0]}")
    found = record_encoders(folder)
    for modality, numbers in found.items():
        if not np.isfinite(numbers).all():
            raise Sick(f"{modality}: embeds a built-in input as something that is not a number")
    told = f"{', '.join(found)} embed a built-in input"
    try:
        recorded = patient.golden.encoders
    except Skip:
        return told
    if reason := encoder_difference(recorded, found):
        raise Sick(reason)
    return f"{told} as recorded"


def cache(patient: Patient) -> str:
    opened = open_cache(patient.settings, patient.config)
    if opened is None:
        raise Skip("the model has no cache, and --cache names none")
    asyncio.run(ask(opened, embedding(patient.folder, 0).numpy()))
    fit, count = fit_of(patient.config), sum(manifest.count for manifest in opened.manifests)
    told = all(map(fit.can_verify, opened.manifests))
    origin = "of the model's encoders" if told else "that do not say of which encoders"
    kind = opened.manifests[0].kind
    return f"{count} features {origin}, {kind}; an embedding was enhanced"


async def ask(cache: Enhancer, query: Array) -> None:
    try:
        await cache.check()
        row = await cache.enhance(query, cache.defaults)
        if not abs(float(np.linalg.norm(row.vector)) - 1) < 1e-4:
            raise Sick("the cache: an enhanced embedding is no unit vector")
    finally:
        await cache.aclose()


def tokenizer(patient: Patient) -> str:
    for answer in patient.golden.answers:
        if tokenize(patient.folder, answer.text) != answer.ids:
            raise Sick("cuts a recorded prompt otherwise than when it was recorded")
    return "cuts the recorded prompts as recorded"


def golden_plain(patient: Patient) -> str:
    """Through the slow reference, one layer in memory at a time."""
    found = again(patient.folder, patient.golden)
    return compared(patient.golden, found, "float32", "the reference")


def golden_engine(patient: Patient) -> str:
    """Through vLLM, which takes the memory that serving takes."""
    from model_ext.checks.engine_golden import answer
    from server.engine.flags import our_defaults

    golden = patient.golden  # none recorded: no engine is started
    defaults = our_defaults(patient.settings)
    options = {key: defaults[key] for key in ENGINE_OPTIONS if key in defaults}
    found = answer(patient.folder, options)
    return compared(golden, found.answers, found.dtype, f"vLLM in {found.dtype}")


def compared(golden: Golden, found: list[tuple[Step, ...]], dtype: str, who: str) -> str:
    tolerance = TOLERANCES[dtype]
    for number, (answer, steps) in enumerate(zip(golden.answers, found, strict=True), start=1):
        if reason := difference(answer, steps, tolerance):
            raise Sick(f"prompt {number}, {reason}, by {who}")
    return f"{len(golden.answers)} prompts answered as recorded, by {who} (within {tolerance:g})"


Through = Literal["engine", "plain"]
GOLDENS: dict[Through, Check] = {"engine": golden_engine, "plain": golden_plain}


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    verdict: Literal["ok", "skip", "FAIL"]
    text: str


def examine(patient: Patient, through: Through) -> Iterator[Finding]:
    """One finding a check, as they come. Without a readable config.json nothing else is tried."""
    checks: dict[str, Check] = {
        "config": config,
        "files": files,
        "tensors": tensors,
        "provenance": provenance,
        "tokenizer": tokenizer,
        "encoders": encoders,
        "cache": cache,
        "golden": GOLDENS[through],
    }
    for name, check in checks.items():
        finding = look(name, check, patient)
        yield finding
        if name == "config" and finding.verdict == "FAIL":
            return


def look(name: str, check: Check, patient: Patient) -> Finding:
    try:
        return Finding(name, "ok", check(patient))
    except Skip as reason:
        return Finding(name, "skip", str(reason))
    except (Sick, GoldenError) as reason:
        return Finding(name, "FAIL", str(reason))
    except Exception as error:  # a damaged model fails in any way, and every check shall be made
        return Finding(name, "FAIL", f"{type(error).__name__}: {error}".split("\n")[0])
