"""Divide a GPU's memory between vLLM's engine and the other processes that use the same GPU.

vLLM reserves the share `--gpu-memory-utilization` of the GPU's memory and ignores other processes.
This module computes a share that leaves enough memory for them, and rejects configurations that
cannot fit. It does not use vLLM, a GPU or files. All sizes are bytes on one GPU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MiB = 1 << 20
GiB = 1 << 30

# vLLM's default for --gpu-memory-utilization. The rest is for memory that vLLM does not measure.
MAX_UTILIZATION = 0.92
# Share of the GPU's memory that is kept free for fragmentation and the driver.
RESERVE = 0.02
# Bytes that each process needs on the GPU for its CUDA context, kernels and the workspaces of
# libraries.
CUDA_CONTEXT = 600 * MiB


class DoesNotFit(ValueError):
    """Raised when the configuration needs more memory than the GPU has."""


@dataclass(frozen=True, slots=True)
class EngineNeeds:
    """Estimates of the memory that vLLM's engine needs. vLLM later measures the true values."""

    weights: int  # Weights of the LLM and of the bind network.
    maps: int  # Products of layer weights that new requests use (fold.py).
    draft: int  # Weights of the draft model for speculative decoding.
    activations: int  # Activations of the engine's largest step.
    kv_per_token: int
    max_model_len: int
    kv_cache: int | None = None  # The operator's --kv-cache-memory-bytes, if it is set.

    @property
    def fixed(self) -> int:
        """Return the memory that the engine needs in addition to the KV cache."""
        return self.weights + self.maps + self.draft + self.activations + CUDA_CONTEXT

    @property
    def min_kv_cache(self) -> int:
        """Return the size of the smallest possible KV cache. vLLM starts only if one request of
        maximum length fits.
        """
        if self.kv_cache is not None:
            return self.kv_cache
        return self.kv_per_token * self.max_model_len


@dataclass(frozen=True, slots=True)
class Share:
    """The memory of processes other than the engine."""

    name: str
    size: int
    # advice for the operator: which setting moves these processes off the GPU or reduces their
    # memory
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as the driver reports it."""

    name: str
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Budget:
    card: Card
    needs: EngineNeeds
    shares: tuple[Share, ...]
    utilization: float  # the value for --gpu-memory-utilization

    @property
    def engine(self) -> int:
        return int(self.card.total * self.utilization)

    @property
    def kv_cache(self) -> int:
        """The approximate size of vLLM's KV cache."""
        return self.needs.kv_cache or self.engine - self.needs.fixed

    @property
    def rest(self) -> int:
        return self.card.total - self.engine - sum(share.size for share in self.shares)

    def __str__(self) -> str:
        """The table of memory sizes that the server logs at start-up."""
        tokens = self.kv_cache // self.needs.kv_per_token
        rows = [
            *engine_rows(self.needs),
            (f"KV cache ({tokens:,} tokens)", self.kv_cache),
            (f"engine (--gpu-memory-utilization {self.utilization:.3f})", self.engine),
            *((share.name, share.size) for share in self.shares if share.size),
            ("not assigned", self.rest),
            ("card", self.card.total),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"GPU memory of {self.card.name}, GiB"]
        for name, size in rows:
            indent = "" if name.startswith("engine") else "  "
            lines.append(f"  {indent + name:<{width + 2}}  {size / GiB:6.2f}")
        return "\n".join(lines)


def engine_rows(needs: EngineNeeds) -> list[tuple[str, int]]:
    rows = [
        ("LLM weights", needs.weights),
        ("maps of new requests", needs.maps),
        ("speculative draft", needs.draft),
        ("activations and CUDA context", needs.activations + CUDA_CONTEXT),
    ]
    return [(name, size) for name, size in rows if size]


def plan(
    card: Card, needs: EngineNeeds, shares: Sequence[Share], utilization: float | None = None
) -> Budget:
    """Compute the engine's share of the GPU's memory.

    `utilization`: the operator's --gpu-memory-utilization, which is checked and not changed.

    Raises DoesNotFit: when the memory is too small for the engine or the other processes. The
    message contains the sizes and names a flag to change.
    """
    others = sum(share.size for share in shares)
    if utilization is None:
        available = card.total - others - int(RESERVE * card.total)
        share = min(MAX_UTILIZATION, available / card.total)
        utilization = max(0.0, math.floor(share * 1000) / 1000)
    elif (limit := 1 - others / card.total) < utilization:
        raise DoesNotFit(
            f"--gpu-memory-utilization {utilization:g} leaves "
            f"{gib((1 - utilization) * card.total)} of the {gib(card.total)} GiB of {card.name}, "
            f"but {listed(shares)} need {gib(others)} GiB: omit the flag, or give "
            f"{max(0.0, math.floor(limit * 100) / 100):g} or less"
        )
    budget = Budget(card, needs, tuple(shares), utilization)
    missing = needs.fixed + needs.min_kv_cache - budget.engine
    if missing > 0:
        raise DoesNotFit(
            f"the model does not fit on {card.name}: the engine needs "
            f"{gib(needs.fixed + needs.min_kv_cache)} GiB "
            f"({listed_sizes(engine_rows(needs))}, KV cache {gib(needs.min_kv_cache)}) and gets "
            f"{gib(budget.engine)} of {gib(card.total)} GiB; {remedy(budget, missing)}"
        )
    return budget


def remedy(budget: Budget, missing: int) -> str:
    """Return the advice for the operator: the smallest change of the settings with which the
    configuration fits.
    """
    needs, card = budget.needs, budget.card
    tokens = (budget.engine - needs.fixed) // needs.kv_per_token
    if needs.kv_cache is not None and tokens > 0:
        return f"lower --kv-cache-memory-bytes to at most {budget.engine - needs.fixed}"
    if tokens >= 256:
        return f"lower --max-model-len to at most {tokens}"
    if missing <= int(MAX_UTILIZATION * card.total) - budget.engine:
        needed = math.ceil((budget.engine + missing) / card.total * 100) / 100
        if needed <= 1 - sum(share.size for share in budget.shares) / card.total:
            return f"raise --gpu-memory-utilization to {needed:g}"
    movable = sorted((share for share in budget.shares if share.remedy), key=lambda s: s.size)
    for share in movable:
        if share.size >= missing:
            return f"{share.name} take {gib(share.size)} GiB: {share.remedy}"
    return "use --tensor-parallel-size with more cards, a quantized model, or a larger card"


def gib(size: float) -> str:
    return f"{size / GiB:.1f}"


def listed(shares: Sequence[Share]) -> str:
    return listed_sizes([(share.name, share.size) for share in shares if share.size])


def listed_sizes(rows: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {gib(size)}" for name, size in rows)
