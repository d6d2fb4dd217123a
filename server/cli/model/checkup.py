"""The checks of `bindserve doctor`. Each check returns a line that describes success, or raises.

The checks read the model folder and its retrieval cache. Only `golden_engine` starts an engine.
"""

import asyncio
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
from model_ext.config import BindServeConfig, EncodersConfig, read_sections
from model_ext.imagebind.model import TENSORS_FILE
from model_ext.imagebind.subset import read_config
from model_ext.manifest import MANIFEST, Manifest
from model_ext.weights.safetensors_file import open_safetensors
from server.conditioning.open_cache import fit_of, open_cache
from server.encoding.components import ENCODERS
from server.settings import Settings

# vLLM options that are copied from the defaults of `bindserve serve`
ENGINE_OPTIONS = ("dtype", "kv_cache_memory_bytes")
ROLES = ("llama", "adapter", "imagebind")  # roles that the source files of a conversion can have


class Skip(Exception):
    """Raised when a check is not possible. The text gives the reason."""


class CheckFailed(Exception):
    """Raised when a check fails. The text describes the fault."""


class Checkup:
    """A model folder with its settings, for which the checks run. Reads config.json and golden.json
    once.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.model

    @cached_property
    def config(self) -> EncodersConfig:
        return read_sections(self.folder)

    def require_language_model(self) -> None:
        if not isinstance(self.config, BindServeConfig):
            raise Skip("the folder has no language model")

    @cached_property
    def golden(self) -> Golden:
        try:
            return Golden.read(self.folder)
        except FileNotFoundError:
            raise Skip(f"no {GOLDEN}: `bindserve convert --golden` records answers") from None


Check = Callable[[Checkup], str]


def config(checkup: Checkup) -> str:
    model = checkup.config
    if not isinstance(model, BindServeConfig):
        return f"encoders alone, modalities {', '.join(model.imagebind.modalities)}"
    injection = model.injection
    return (
        f"{model.provenance.stage} weights, {injection.form} form in {injection.layers} layers, "
        f"modalities {', '.join(model.imagebind.modalities)}"
    )


def files(checkup: Checkup) -> str:
    """Compare the hash of every file with the hash in the manifest."""
    try:
        manifest = Manifest.read(checkup.folder)
    except FileNotFoundError:
        raise Skip(f"no {MANIFEST}, which lists the files' hashes") from None
    for name, reason in manifest.damaged(checkup.folder):
        raise CheckFailed(f"{name} {reason}; convert the model again or copy it again")
    loaded = {path.name for path in checkup.folder.glob("*.safetensors")}
    if unknown := sorted(loaded - manifest.files.keys()):
        raise CheckFailed(f"{unknown[0]} is not in {MANIFEST}, but would be loaded; remove it")
    return f"{len(manifest.files)} files, each with the sha256 of {MANIFEST}"


def tensors(checkup: Checkup) -> str:
    """Compare the names and shapes of the folder's tensors with those that vLLM's model expects."""
    checkup.require_language_model()
    # this import loads vLLM, which takes seconds
    from model_ext.checks.shape_check import check_weights

    return f"{check_weights(checkup.folder)} tensors with the names and shapes of vLLM's model"


def provenance(checkup: Checkup) -> str:
    provenance = checkup.config.provenance
    roles = {source.role for source in provenance.sources}
    needed = ROLES if isinstance(checkup.config, BindServeConfig) else ROLES[-1:]
    if missing := [role for role in needed if role not in roles]:
        raise Skip(f"config.json names no source of the {missing[0]} weights")
    base = provenance.base_fingerprint
    fingerprint = f", base {base[:12]}" if base else ""
    sources = ", ".join(f"{source.file} {source.sha256[:12]}" for source in provenance.sources)
    return f"{sources}{fingerprint}"


def encoders(checkup: Checkup) -> str:
    """Load one encoder after the other, and embed a built-in input with each."""
    folder = checkup.folder / ENCODERS
    sizes, summary = read_config(folder), checkup.config.imagebind
    if (sizes.modalities, sizes.embed_dim) != (summary.modalities, summary.embedding_dim):
        raise CheckFailed(f"{folder} contains other encoders than config.json lists")
    names = {name.split(".")[0] for name in open_safetensors(folder / TENSORS_FILE)}
    if unknown := sorted(names - set(sizes.modalities)):
        raise CheckFailed(
            f"{folder / TENSORS_FILE}: contains tensors of an unknown encoder {unknown[0]}"
        )
    embeddings = record_encoders(folder)
    for modality, numbers in embeddings.items():
        if not np.isfinite(numbers).all():
            raise CheckFailed(f"{modality}: the embedding of a built-in input is not finite")
    text = f"{', '.join(embeddings)} embed a built-in input"
    try:
        recorded = checkup.golden.encoders
    except Skip:
        return text
    if reason := encoder_difference(recorded, embeddings):
        raise CheckFailed(reason)
    return f"{text} as recorded"


def cache(checkup: Checkup) -> str:
    opened = open_cache(checkup.settings, checkup.config)
    if opened is None:
        raise Skip("the model has no cache, and --cache names none")
    asyncio.run(check_cache(opened, embedding(checkup.folder, 0).numpy()))
    fit, count = fit_of(checkup.config), sum(manifest.count for manifest in opened.manifests)
    recorded = all(map(fit.can_verify, opened.manifests))
    origin = "of the model's encoders" if recorded else "of unrecorded encoders"
    kind = opened.manifests[0].kind
    return f"{count} features {origin}, {kind}; an embedding was enhanced"


async def check_cache(cache: Enhancer, query: Array) -> None:
    try:
        await cache.check()
        row = await cache.enhance(query, cache.defaults)
        if not abs(float(np.linalg.norm(row.vector)) - 1) < 1e-4:
            raise CheckFailed("the cache: an enhanced embedding does not have unit length")
    finally:
        await cache.aclose()


def tokenizer(checkup: Checkup) -> str:
    checkup.require_language_model()
    for answer in checkup.golden.answers:
        if tokenize(checkup.folder, answer.text) != answer.ids:
            raise CheckFailed("a recorded prompt has other tokens than when it was recorded")
    return "the recorded prompts have the recorded tokens"


def golden_plain(checkup: Checkup) -> str:
    """Compare the recorded answers with the answers of a slow reference model.

    The reference model holds one layer at a time in memory.
    """
    answers = again(checkup.folder, checkup.golden)
    return compare(checkup.golden, answers, "float32", "the reference")


def golden_engine(checkup: Checkup) -> str:
    """Compare the recorded answers with vLLM's answers. Needs as much memory as a server."""
    from model_ext.checks.engine_golden import answer
    from server.engine.flags import server_defaults

    # Read the recorded answers before the engine starts. If there are none, this raises Skip.
    golden = checkup.golden
    defaults = server_defaults(checkup.settings)
    options = {key: defaults[key] for key in ENGINE_OPTIONS if key in defaults}
    result = answer(checkup.folder, options)
    return compare(golden, result.answers, result.dtype, f"vLLM in {result.dtype}")


def compare(golden: Golden, answers: list[tuple[Step, ...]], dtype: str, subject: str) -> str:
    """Compare answers with the recorded answers, within the tolerance of `dtype`."""
    tolerance = TOLERANCES[dtype]
    for number, (answer, steps) in enumerate(zip(golden.answers, answers, strict=True), start=1):
        if reason := difference(answer, steps, tolerance):
            raise CheckFailed(f"prompt {number}, {reason}, by {subject}")
    return (
        f"{len(golden.answers)} prompts answered as recorded, by {subject} (within {tolerance:g})"
    )


Through = Literal["engine", "plain"]
GOLDENS: dict[Through, Check] = {"engine": golden_engine, "plain": golden_plain}


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    verdict: Literal["ok", "skip", "FAIL"]
    text: str


def run_checks(checkup: Checkup, through: Through) -> Iterator[Finding]:
    """Run the checks and yield the result of each. Stops after `config` if config.json is not
    readable.
    """
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
        finding = run_check(name, check, checkup)
        yield finding
        if name == "config" and finding.verdict == "FAIL":
            return


def run_check(name: str, check: Check, checkup: Checkup) -> Finding:
    try:
        return Finding(name, "ok", check(checkup))
    except Skip as reason:
        return Finding(name, "skip", str(reason))
    except (CheckFailed, GoldenError) as reason:
        return Finding(name, "FAIL", str(reason))
    # a damaged model can cause any exception; continue with the next check
    except Exception as error:
        return Finding(name, "FAIL", f"{type(error).__name__}: {error}".split("\n")[0])
