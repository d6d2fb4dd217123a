"""The model in plain torch computes the logits of the released model and of the oracle."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_ext.checks.reference import Prompt, Reference
from model_ext.convert.model import Options, convert
from tests.bases import FAMILIES, write_sources
from tests.oracle import Oracle
from tests.rounding import between, logits_terms

FIXTURES = Path(__file__).parents[2] / "fixtures"
INDEX: dict[str, Any] = json.loads((FIXTURES / "golden" / "index.json").read_text())["logits"]
LOGITS = load_file(FIXTURES / "golden" / "logits.safetensors")
VISUAL = load_file(FIXTURES / "golden" / "visual.safetensors")
IDS = tuple(torch.randint(3, 512, (40,), generator=torch.Generator().manual_seed(2)).tolist())
EMBEDDING = torch.nn.functional.normalize(torch.arange(40) % 7 - 3.0, dim=0)


def bound(folder: Path, expected: torch.Tensor) -> float:
    config = json.loads((folder / "config.json").read_text())
    return between(logits_terms(config, len(expected))) * expected.abs().max().item()


@pytest.mark.parametrize("checkpoint", ["finetune", "pretrain", "legacy"])
def test_released_logits(tiny_models: dict[str, Path], checkpoint: str) -> None:
    """One call computes the recorded logits of all prompts, which have different embeddings."""
    keys = [key for key in LOGITS if key.endswith("/lse") and key.startswith(f"{checkpoint}/")]
    assert len(keys) == 12
    prompts = []
    for key in keys:
        _, combo, number, _ = key.split("/")
        ids = INDEX["prompt_ids"][int(number.removeprefix("prompt"))]
        prompts.append(Prompt(tuple(ids), VISUAL[f"{combo}/mixed"][0]))
    results = Reference.from_folder(tiny_models[checkpoint]).logprobs(prompts)
    for key, logprobs in zip(keys, results, strict=True):
        expected = LOGITS[key.replace("lse", "logits_s8")] - LOGITS[key][:, None]
        torch.testing.assert_close(
            logprobs[:, ::8], expected, atol=bound(tiny_models[checkpoint], expected), rtol=0
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_bases(family: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = tiny_models["finetune"] / "tokenizer.json"
    sources = write_sources(tmp_path, family, "finetune", tokenizer)
    out = tmp_path / "out"
    convert(sources, out, Options(dtype=torch.float32, golden=False, progress=False))
    (logprobs,) = Reference.from_folder(out).logprobs([Prompt(IDS, EMBEDDING)])
    expected = Oracle.from_folder(out).logits(list(IDS), EMBEDDING).log_softmax(-1)
    torch.testing.assert_close(logprobs, expected, atol=bound(out, expected), rtol=0)


def test_the_papers_form(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """The paper's form (residual) adds its term, times a factor, to the input of each layer."""
    source = tiny_models["pretrain"]
    config = json.loads((source / "config.json").read_text())
    config["injection"]["form"] = "residual"
    tensors = load_file(source / "model-00001-of-00001.safetensors")
    del tensors["injection.query"]
    tensors["injection.gate"] = torch.tensor([[0.3], [-0.2], [0.1], [0.4]])
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors")
    (logprobs,) = Reference.from_folder(tmp_path).logprobs([Prompt(IDS, EMBEDDING)])
    expected = Oracle.from_folder(tmp_path).logits(list(IDS), EMBEDDING).log_softmax(-1)
    torch.testing.assert_close(logprobs, expected, atol=bound(tmp_path, expected), rtol=0)
