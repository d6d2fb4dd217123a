"""The model in plain torch reproduces the recorded answers. A changed model does not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_ext.checks.golden import (
    STEPS,
    Answer,
    Golden,
    GoldenError,
    Step,
    again,
    best,
    difference,
    embedding,
    encoder_difference,
    record,
    record_encoders,
    tokenize,
)
from tests.oracle import Oracle

WEIGHTS = "model-00001-of-00001.safetensors"


@pytest.fixture(scope="module")
def folder(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["finetune"]


@pytest.fixture(scope="module")
def golden(folder: Path) -> Golden:
    return Golden.read(folder)


def test_conversion_recorded_what_the_oracle_answers(folder: Path, golden: Golden) -> None:
    oracle = Oracle.from_folder(folder)
    assert len({answer.tokens for answer in golden.answers}) == len(golden.answers) == 2
    for number, answer in enumerate(golden.answers):
        assert answer.ids == tokenize(folder, answer.text)
        ids, _ = oracle.greedy(list(answer.ids), embedding(folder, number), STEPS)
        assert answer.tokens == tuple(ids)
        last = list(answer.ids + answer.tokens[:-1])
        logprobs = oracle.logits(last, embedding(folder, number))[-1].log_softmax(-1)
        for token, logprob in answer.steps[-1].top:
            assert abs(logprobs[token] - logprob) < 1e-4


def test_it_is_repeated(folder: Path, golden: Golden) -> None:
    assert record(folder).to_json() == golden.to_json()
    for answer, steps in zip(golden.answers, again(folder, golden), strict=True):
        assert difference(answer, steps, 1e-4) is None
    assert encoder_difference(golden.encoders, record_encoders(folder / "encoders")) is None


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.3.self_attn.o_proj.bias",
        "injection.gate",
        "injection.query",
        "injection.v_lora_b",
        "bind.blocks.2.norm.weight",
        "model.layers.0.mlp.up_proj.weight",
    ],
)
def test_a_changed_weight_is_noticed(
    folder: Path, golden: Golden, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    tensors = load_file(copy / WEIGHTS)
    tensors[name] = torch.zeros_like(tensors[name])
    save_file(tensors, copy / WEIGHTS, metadata={"format": "pt"})
    repeated = again(copy, golden)
    assert any(difference(a, s, 2e-3) for a, s in zip(golden.answers, repeated, strict=True))


def test_a_changed_encoder_is_noticed(folder: Path, golden: Golden, tmp_path: Path) -> None:
    copy = tmp_path / "encoders"
    shutil.copytree(folder / "encoders", copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["audio.head.proj.weight"][0] *= 1.01
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    reason = encoder_difference(golden.encoders, record_encoders(copy))
    assert reason
    assert reason.startswith("audio: ")


def steps(*tops: dict[int, float]) -> tuple[Step, ...]:
    return tuple(Step(tuple(top.items())) for top in tops)


ANSWER = Answer("x", (1,), steps({7: -0.5, 8: -1.5}, {9: -0.70, 7: -0.71}, {3: -0.2, 4: -2}))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (ANSWER.steps, None),
        (steps({7: -0.505, 8: -1.5}, *({9: -0.7, 7: -0.71}, {3: -0.2, 4: -2})), None),
        (steps({7: -0.6, 8: -1.5}), "step 1: log-probability of token 7 is -0.6000, recorded -0.5"),
        (steps({7: float("nan"), 8: -1.5}), "step 1: log-probability"),
        (steps({2: -0.1, 5: -0.2}), "step 1: token 2, recorded 7"),
        # if two tokens are almost equally probable, both are accepted, and later steps are not
        # compared
        (steps({7: -0.5, 8: -1.5}, {7: -0.705, 9: -0.706}, {6: -0.1, 5: -9}), None),
        (steps({7: -0.5, 8: -1.5}), "1 tokens, recorded 3"),
    ],
)
def test_differences(other: tuple[Step, ...], reason: str | None) -> None:
    text = difference(ANSWER, other, 0.01)
    assert text == reason if reason is None else text and text.startswith(reason)


def test_differences_of_encoders() -> None:
    expected = {"vision": (0.5, 0.1), "audio": (0.2, 0.3)}
    assert encoder_difference(expected, {**expected}) is None
    near, far = {**expected, "audio": (0.2, 0.300001)}, {**expected, "audio": (0.2, 0.31)}
    assert encoder_difference(expected, near) is None
    assert encoder_difference(expected, far) == "audio: differs by 0.01 from the recorded vector"
    assert encoder_difference(expected, {**expected, "audio": (0.2, float("nan"))})
    assert encoder_difference(expected, {"vision": (0.5, 0.1)}) == "vision, recorded audio, vision"


def test_no_answer_of_infinities() -> None:
    with pytest.raises(GoldenError, match="not a number"):
        best(torch.tensor([0.1, float("nan"), 0.2]))


Change = Callable[[dict[str, object]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("answers"),
        lambda document: document.update(more=1),
        lambda document: document.update(encoders={"vision": ["x"]}),
        lambda document: document["answers"][0].update(steps=[{"top": [[1, 0.5]]}]),
    ],
)
def test_broken_files_are_named(golden: Golden, tmp_path: Path, change: Change) -> None:
    document = json.loads(golden.to_json())
    (tmp_path / "golden.json").write_text(json.dumps(document))
    assert Golden.read(tmp_path) == golden
    change(document)
    (tmp_path / "golden.json").write_text(json.dumps(document))
    with pytest.raises(GoldenError, match=r"golden\.json"):
        Golden.read(tmp_path)


def test_embeddings_are_unlike(folder: Path) -> None:
    one, other = embedding(folder, 0), embedding(folder, 1)
    assert isinstance(one, Tensor)
    torch.testing.assert_close(one.norm(), torch.tensor(1.0))
    assert abs(one @ other) < 0.9
