"""Both training phases reproduce the recorded values of the released code: tokens, labels, loss,
gradients, and the loss after a step of the optimiser.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model_ext.convert.adapter import (
    BIAS_ROWS,
    BIND_ROWS,
    INJECTION_ROWS,
    LORA_ROWS,
    NORM_ROWS,
)
from model_ext.imagebind.dtype import zero_image
from model_ext.imagebind.subset import load_encoders
from model_ext.train.data.dataset import Batch, ConditionedText
from model_ext.train.data.embeddings import embed_pictures
from model_ext.train.data.examples import Example, read_examples
from model_ext.train.lm.model import ConditionedLlama
from model_ext.train.lm.phase import BETAS, EPS, Phase, groups
from model_ext.train.loop.schedule import learning_rate
from model_ext.train.tokenizer import open_tokenizer
from model_ext.weights.rotary import rotate_half_rows
from model_ext.weights.table import expand
from tests.model_ext.train.conftest import FIXTURES, MakeModel

GOLDEN = load_file(FIXTURES / "golden" / "train.safetensors")
INDEX = json.loads((FIXTURES / "golden" / "index.json").read_text())["train"]
CPU = torch.device("cpu")
FILES = {"pretrain": "train_pretrain.csv", "finetune": "train_finetune.json"}
PHASES: tuple[Phase, ...] = ("pretrain", "finetune")
# Return the released name and the name in the training code, for each tensor of the fixtures'
# model.
NAMES = {
    released: expected.target
    for released, expected in expand(
        BIND_ROWS + INJECTION_ROWS + NORM_ROWS + BIAS_ROWS + LORA_ROWS,
        dict.fromkeys("CDFHKQVWqr", 1) | {"L": 5, "J": 3},
    ).items()
}


def dataset(phase: Phase, encoders: Path, cache: Path) -> ConditionedText:
    examples = read_examples(FIXTURES / "golden" / FILES[phase], FIXTURES)
    pictures = [example.picture for example in examples if example.picture is not None]
    return ConditionedText(
        examples,
        open_tokenizer(FIXTURES / "tiny" / "llama" / "tokenizer.model"),
        embed_pictures(pictures, encoders, cache, 1, 0, 0, CPU),
        zero_image(load_encoders(encoders, ["vision"])),
        INDEX[phase]["max_words"],
        "released",
    )


def whole(phase: Phase, encoders: Path, cache: Path) -> Batch:
    data = dataset(phase, encoders, cache)
    return data.batch(range(len(data)), length=INDEX[phase]["max_words"])


def loss_of(model: ConditionedLlama, batch: Batch) -> Tensor:
    loss: Tensor = model(batch.ids, batch.labels, batch.embedding)
    return loss


@pytest.mark.parametrize("phase", PHASES)
def test_tokens_and_labels(phase: Phase, encoders_folder: Path, tmp_path: Path) -> None:
    batch = whole(phase, encoders_folder, tmp_path)
    assert torch.equal(batch.ids, GOLDEN[f"{phase}/tokens"])
    assert torch.equal(batch.labels, GOLDEN[f"{phase}/labels"])


@pytest.mark.parametrize("phase", PHASES)
def test_loss_gradients_and_one_step(
    phase: Phase, encoders_folder: Path, tmp_path: Path, make_model: MakeModel
) -> None:
    index = INDEX[phase]
    model, batch = make_model(phase), whole(phase, encoders_folder, tmp_path)
    loss = loss_of(model, batch)
    assert close(loss, f"{phase}/loss")

    loss.backward()
    gradients = {name: p.grad for name, p in model.trainable()}
    assert gradients.keys() == {NAMES[name] for name in index["names"]}
    norms = torch.stack([_grad(gradients, name).norm() for name in index["names"]])
    assert close(norms, f"{phase}/grad_norms")
    assert close(norms.norm(), f"{phase}/total_grad_norm")
    for key in GOLDEN:
        if key.startswith(f"{phase}/grad/"):
            released = key.removeprefix(f"{phase}/grad/")
            golden = GOLDEN[key]
            # in the training code, rows are in rotate-half order
            if released.endswith("lora_wq_l2.weight"):
                golden = rotate_half_rows(golden, head_dim=32)
            gradient = _grad(gradients, released)
            assert (gradient - golden).abs().max() <= 5e-6 * golden.abs().max(), released

    parameter_groups = groups(model.named_parameters(), index["weight_decay"])
    optimizer = torch.optim.AdamW(parameter_groups, lr=index["lr"], betas=BETAS, eps=EPS)
    optimizer.step()
    assert close(loss_of(model, batch), f"{phase}/loss_after_step")


@pytest.mark.parametrize("phase", PHASES)
def test_weight_decay_groups(phase: Phase, make_model: MakeModel) -> None:
    model = make_model(phase)
    name_of = {id(p): name for name, p in model.named_parameters()}
    no_decay = {
        name_of[id(p)]
        for group in groups(model.named_parameters(), 0.02)
        if group["weight_decay"] == 0
        for p in group["params"]
    }
    assert no_decay == {NAMES[name] for name in INDEX[phase]["no_decay"]}


def test_layers_before_the_injected_ones_have_no_gate(make_model: MakeModel) -> None:
    """Layers without injection have no gate. In the released code, they have an unused gate."""
    without = {NAMES[name] for name in INDEX["pretrain"]["trainable_without_gradient"]}
    assert without == {"injection.gate.0"}
    assert not without & dict(make_model("pretrain").named_parameters()).keys()


def test_padding_to_the_longest_changes_no_loss(
    encoders_folder: Path, tmp_path: Path, make_model: MakeModel
) -> None:
    model = make_model("pretrain")
    data = dataset("pretrain", encoders_folder, tmp_path)
    short, long = data.batch([0, 1]), data.batch([0, 1], length=96)
    assert short.ids.shape[1] < 96
    torch.testing.assert_close(loss_of(model, short), loss_of(model, long), rtol=1e-6, atol=0)


def test_checkpointed_activations_give_the_same_gradients(
    encoders_folder: Path, tmp_path: Path, make_model: MakeModel
) -> None:
    batch = whole("pretrain", encoders_folder, tmp_path)
    plain, checkpointed = make_model("pretrain"), make_model("pretrain")
    checkpointed.checkpointing = True
    for model in (plain, checkpointed):
        loss_of(model, batch).backward()
    for (name, one), (_, other) in zip(plain.trainable(), checkpointed.trainable(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_remembered_texts_give_the_same_gradients(
    encoders_folder: Path, tmp_path: Path, make_model: MakeModel
) -> None:
    batch = whole("pretrain", encoders_folder, tmp_path)
    plain, remembering = make_model("pretrain"), make_model("pretrain")
    remembering.remembered = {}
    loss_of(remembering, batch)  # the first call stores the outputs of the lower layers
    assert len(remembering.remembered) == 2
    for model in (plain, remembering):
        loss_of(model, batch).backward()
    for (name, one), (_, other) in zip(plain.trainable(), remembering.trainable(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_a_batch_without_targets_has_no_loss_and_no_gradient(make_model: MakeModel) -> None:
    model = make_model("finetune")
    ids = torch.randint(1, 500, (2, 8))
    loss = model(ids, torch.zeros_like(ids), torch.randn(2, 40))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for _, p in model.trainable())


def test_examples_of_the_finetune_golden(encoders_folder: Path, tmp_path: Path) -> None:
    examples: list[Example] = list(dataset("finetune", encoders_folder, tmp_path).examples)
    assert [example.text_only for example in examples] == [False, True, True]


@pytest.mark.parametrize("case", INDEX["lr_schedule"])
def test_learning_rates(case: dict[str, object]) -> None:
    args, points = case["args"], case["points"]
    assert isinstance(args, dict)
    assert isinstance(points, list)
    for time, rate in points:
        computed = learning_rate(
            time, args["warmup_epochs"], args["epochs"], args["lr"], args["min_lr"]
        )
        assert computed == pytest.approx(rate, rel=1e-9, abs=1e-15)


def close(value: Tensor, key: str) -> bool:
    golden = GOLDEN[key].flatten()
    return bool(((value.detach().flatten() - golden).abs() <= 5e-6 * golden.abs()).all())


def _grad(gradients: dict[str, Tensor | None], released: str) -> Tensor:
    gradient = gradients[NAMES[released]]
    assert gradient is not None, released
    return gradient
