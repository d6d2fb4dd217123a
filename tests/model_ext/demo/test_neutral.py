"""`neutral` makes the injected terms of an image of zeros small, and keeps those of pictures."""

import torch
from torch.nn import functional as F

from model_ext.config import BindConfig
from model_ext.demo.neutral import injected, neutral_vector, strength, teach
from model_ext.train.lm.base import build, open_base
from model_ext.train.lm.model import ConditionedLlama
from tests.model_ext.train.conftest import BASE

DIM = 40


def open_model(rank: int = 0) -> ConditionedLlama:
    """Return the tiny base model with random gates, as if it were trained."""
    torch.manual_seed(0)
    llama = open_base(BASE)
    width = llama.sizes.hidden_size
    bind = BindConfig(in_features=DIM, hidden_size=width, intermediate_size=4 * width)
    model = build(llama, bind, 2, rank, 64, torch.float32)
    for gate in model.injection.gate.values():
        gate.data.normal_()
    for name, parameter in model.named_parameters():
        if name.endswith("lora_b"):
            parameter.data.normal_(std=0.1)
    return model.requires_grad_(False)


def test_the_linear_form_equals_the_layers_terms() -> None:
    """The terms of the linear system equal what the injection adds to the attention's output."""
    model = open_model(rank=4)
    bound = torch.randn(1, model.sizes.hidden_size)
    terms, constant = injected(model)
    expected = []
    for number in range(2, len(model.model.layers)):
        attention = model.model.layers[number].self_attn
        x = torch.randn(1, 3, model.sizes.hidden_size)
        conditioned = attention(x, model.model.rotary, model.injection.at(number, bound))
        expected.append((conditioned - attention(x, model.model.rotary, None))[0, 0])
    torch.testing.assert_close(terms @ bound[0] + constant, torch.cat(expected), atol=2e-5, rtol=0)


def test_no_other_vector_injects_less() -> None:
    model = open_model()
    terms, constant = injected(model)
    best = neutral_vector(model)
    minimum = (terms @ best + constant).norm()
    assert minimum < constant.norm()
    for _ in range(20):
        other = best + 0.1 * best.norm() * F.normalize(torch.randn_like(best), dim=0)
        assert (terms @ other + constant).norm() > minimum


def test_the_zero_image_becomes_neutral_and_pictures_keep_their_terms() -> None:
    model = open_model()
    images, zero = F.normalize(torch.randn(200, DIM), dim=1), F.normalize(torch.randn(DIM), dim=0)
    before, picture = strength(model, zero), strength(model, images[0])
    movement = teach(model.bind, images, zero, neutral_vector(model))
    assert strength(model, zero) < 0.2 * before
    assert abs(strength(model, images[0]) - picture) < 0.2 * picture
    assert movement < 0.15
