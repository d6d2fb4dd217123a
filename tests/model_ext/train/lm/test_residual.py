"""Training in the paper's injection form (eq. 2), which no released weights use.

The oracle (slow reference implementation) reads the exported folder and computes the loss and the
gradients in float64.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from model_ext.config import BindConfig
from model_ext.train.export import export_run
from model_ext.train.lm.base import ADAPTER_FILE, SETTINGS_FILE, build, open_base
from model_ext.train.lm.model import IGNORED, ConditionedLlama
from model_ext.train.lm.phase import groups, is_trained, select
from tests.model_ext.train.conftest import BASE
from tests.oracle import Oracle
from tests.rounding import logits_terms, rounding

FIRST = 2  # the first injected layer
DIM = 40


@pytest.fixture
def model() -> ConditionedLlama:
    """A model of the training phase `pretrain` on the tiny base, with random gates."""
    torch.manual_seed(0)
    llama = open_base(BASE)
    width = llama.sizes.hidden_size
    bind = BindConfig(in_features=DIM, hidden_size=width, intermediate_size=4 * width)
    model = build(llama, bind, FIRST, 0, 64, torch.float32, "residual")
    for gate in model.injection.gate.values():
        assert not gate.any()
        gate.data += torch.randn(1)
    select(model, "pretrain")
    return model


@pytest.fixture
def served(model: ConditionedLlama, tmp_path: Path, encoders_folder: Path) -> Oracle:
    """The oracle (slow reference implementation), which reads the exported model."""
    run = tmp_path / "run"
    run.mkdir()
    named = model.named_parameters()
    save_file({n: p.data for n, p in named if is_trained(n, "pretrain")}, run / ADAPTER_FILE)
    settings = {
        "phase": "pretrain",
        "base": str(BASE),
        "base_fingerprint": open_base(BASE).fingerprint(),
        "encoders": str(encoders_folder),
        "config": {},
    }
    (run / SETTINGS_FILE).write_text(json.dumps(settings))
    exported = export_run(run, tmp_path / "model", dtype="float32", progress=False)
    assert (exported.injection.form, exported.injection.first_layer) == ("residual", FIRST)
    return Oracle.from_folder(tmp_path / "model")


def test_loss_and_gradients_are_those_of_the_oracle(
    model: ConditionedLlama, served: Oracle
) -> None:
    ids, embedding = torch.randint(3, 500, (2, 9)), F.normalize(torch.randn(2, DIM), dim=-1)
    labels = ids.clone()
    labels[:, :4] = IGNORED
    loss = model(ids, labels, embedding)
    loss.backward()

    oracle = served.in_float64()
    trained = [name for name in oracle.weights if name.startswith(("bind.", "injection."))]
    for name in trained:
        oracle.weights[name].requires_grad_()
    expected_loss = oracle_loss(oracle, ids, labels, embedding.double())
    torch.autograd.backward(expected_loss)
    # The loss is a mean over the positions, so the bound also counts this sum.
    forward = [*logits_terms(oracle.config, ids.shape[1]), ids.numel()]
    torch.testing.assert_close(loss.double(), expected_loss, rtol=rounding(forward), atol=0)

    gradients = {
        name: p.grad for name, p in model.trainable() if "gate." not in name or "bind" in name
    }
    gates = [model.injection.gate[str(i)].grad for i in range(FIRST, len(model.model.layers))]
    gradients["injection.gate"] = torch.stack([gate for gate in gates if gate is not None])
    assert gradients.keys() == set(trained)
    bound = rounding(forward * 2)  # the backward pass has as many sums as the forward pass
    for name in trained:
        expected, gradient = oracle.weights[name].grad, gradients[name]
        assert expected is not None
        assert gradient is not None
        assert expected.any(), name
        assert (gradient - expected).norm() <= bound * expected.norm(), name


def oracle_loss(oracle: Oracle, ids: Tensor, labels: Tensor, embedding: Tensor) -> Tensor:
    each = [oracle.logits(row.tolist(), e)[:-1] for row, e in zip(ids, embedding, strict=True)]
    targets = labels[:, 1:].reshape(-1)
    return F.cross_entropy(torch.cat(each), targets, ignore_index=IGNORED)


def test_gates_may_learn_faster_and_there_are_no_queries(model: ConditionedLlama) -> None:
    fast = [g for g in groups(model.named_parameters(), 0.05, 10.0) if g["factor"] == 10.0]
    assert [p.shape for group in fast for p in group["params"]] == [(1,)] * 3
    assert "injection.query" not in dict(model.named_parameters())
