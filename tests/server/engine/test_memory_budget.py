"""The division of a GPU's memory for LLaMA-7B and 13B, with computed GPUs of 16 to 141 GB."""

import re

import pytest

from server.engine.memory_budget import (
    CUDA_CONTEXT,
    MAX_UTILIZATION,
    Card,
    DoesNotFit,
    EngineNeeds,
    GiB,
    MiB,
    Share,
    plan,
)

SEVEN = EngineNeeds(
    weights=int(13.1 * GiB),
    maps=1 * GiB,
    draft=0,
    activations=int(0.9 * GiB),
    kv_per_token=512 << 10,
    max_model_len=2048,
)
THIRTEEN = EngineNeeds(
    weights=int(25.0 * GiB),
    maps=int(1.95 * GiB),
    draft=0,
    activations=int(1.1 * GiB),
    kv_per_token=800 << 10,
    max_model_len=2048,
)
ENCODERS = Share("encoders", int(3.4 * GiB), "set encode_device to cpu")
CACHE = Share("retrieval cache", int(0.9 * GiB), "set cache_device to cpu")


def card(gib: float, others: float = 0) -> Card:
    return Card(f"fake {gib:g} GB", int(gib * GiB), int((gib - others) * GiB))


@pytest.mark.parametrize(
    ("gib", "needs", "fits"),
    [
        (15.7, SEVEN, False),
        (23.6, SEVEN, True),
        (39.4, SEVEN, True),
        (79.1, SEVEN, True),
        (139.8, SEVEN, True),
        (15.7, THIRTEEN, False),
        (23.6, THIRTEEN, False),
        (39.4, THIRTEEN, True),
        (79.1, THIRTEEN, True),
        (139.8, THIRTEEN, True),
    ],
)
def test_cards_and_models(gib: float, needs: EngineNeeds, fits: bool) -> None:
    if not fits:
        with pytest.raises(DoesNotFit, match="does not fit"):
            plan(card(gib), needs, (ENCODERS,))
        return
    budget = plan(card(gib), needs, (ENCODERS, CACHE) if gib > 30 else (ENCODERS,))
    assert 0 < budget.utilization <= MAX_UTILIZATION
    assert budget.rest >= 0.02 * budget.card.total, "too little memory for other processes"
    assert budget.kv_cache >= needs.kv_per_token * needs.max_model_len


def test_a_card_for_the_engine_alone_keeps_vllms_default() -> None:
    assert plan(card(80), SEVEN, ()).utilization == MAX_UTILIZATION


def test_each_process_reduces_the_engines_share() -> None:
    utilizations = [
        plan(card(24), SEVEN, shares).utilization for shares in ((), (ENCODERS,), (ENCODERS, CACHE))
    ]
    assert utilizations == sorted(utilizations, reverse=True)
    assert len(set(utilizations)) == 3


def test_the_operators_share_is_kept_if_it_leaves_room() -> None:
    budget = plan(card(80), SEVEN, (ENCODERS, CACHE), 0.5)
    assert budget.utilization == 0.5
    assert budget.engine == 40 * GiB


def test_a_share_that_leaves_no_room_is_rejected_with_one_that_does() -> None:
    with pytest.raises(DoesNotFit) as caught:
        plan(card(24), SEVEN, (ENCODERS, CACHE), 0.95)
    message = str(caught.value)
    assert "encoders 3.4, retrieval cache 0.9" in message
    assert "--gpu-memory-utilization 0.95" in message
    limit = float(re.findall(r"give (\S+) or less", message)[0])
    assert plan(card(24), SEVEN, (ENCODERS, CACHE), limit).utilization == limit


def test_a_share_that_is_too_small_is_rejected_with_one_that_is_not() -> None:
    with pytest.raises(DoesNotFit) as caught:
        plan(card(80), SEVEN, (ENCODERS,), 0.1)
    needed = float(re.findall(r"raise --gpu-memory-utilization to (\S+)", str(caught.value))[0])
    assert plan(card(80), SEVEN, (ENCODERS,), needed).utilization == needed


def test_a_long_context_is_rejected_with_the_longest_that_fits() -> None:
    needs = EngineNeeds(13 * GiB, 1 * GiB, 0, 1 * GiB, 512 << 10, max_model_len=131_072)
    with pytest.raises(DoesNotFit) as caught:
        plan(card(24), needs, (ENCODERS,))
    tokens = int(re.findall(r"--max-model-len to at most (\d+)", str(caught.value))[0])
    shorter = EngineNeeds(13 * GiB, 1 * GiB, 0, 1 * GiB, 512 << 10, max_model_len=tokens)
    assert plan(card(24), shorter, (ENCODERS,))


def test_a_kv_cache_that_is_too_large_is_rejected() -> None:
    needs = EngineNeeds(13 * GiB, 0, 0, 0, 512 << 10, 2048, kv_cache=10 * GiB)
    with pytest.raises(DoesNotFit, match="--kv-cache-memory-bytes to at most"):
        plan(card(24), needs, (ENCODERS,))


@pytest.mark.parametrize(
    ("total", "remedy"),
    [(17, "set encode_device to cpu"), (12, "--tensor-parallel-size")],
)
def test_the_message_names_the_setting_that_helps(total: int, remedy: str) -> None:
    with pytest.raises(DoesNotFit, match=remedy):
        plan(card(total), EngineNeeds(13 * GiB, 0, 0, 500 * MiB, 512 << 10, 2048), (ENCODERS,))


def test_a_draft_and_other_processes_count() -> None:
    draft = EngineNeeds(13 * GiB, 0, 3 * GiB, 1 * GiB, 512 << 10, 2048)
    others = Share("other processes", 4 * GiB)
    budget = plan(card(40, others=4), draft, (ENCODERS, others))
    assert budget.kv_cache == budget.engine - 17 * GiB - CUDA_CONTEXT
    assert "speculative draft" in str(budget)
    assert "other processes" in str(budget)


def test_the_table_adds_up() -> None:
    budget = plan(card(80), SEVEN, (ENCODERS, CACHE))
    rows = {
        match[1].strip(): float(match[2])
        for line in str(budget).splitlines()[1:]
        if (match := re.match(r"(.+?)\s+(\d+\.\d\d)$", line))
    }
    engine = next(size for name, size in rows.items() if name.startswith("engine"))
    outside = rows["encoders"] + rows["retrieval cache"] + rows["not assigned"]
    inside = sum(list(rows.values())[: list(rows).index(next(n for n in rows if "KV" in n)) + 1])
    assert inside == pytest.approx(engine, abs=0.03)
    assert engine + outside == pytest.approx(rows["card"], abs=0.03)
