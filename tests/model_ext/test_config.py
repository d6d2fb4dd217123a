"""bindserve's sections of a model's config.json: unknown keys and bad values are errors."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import AutoConfig

from model_ext.config import BindConfig, BindServeConfig, CacheConfig, InjectionConfig
from model_ext.errors import ConfigError

HF: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "imagebind": {"modalities": ["vision", "audio"], "embedding_dim": 40},
    "bind": {"in_features": 40, "hidden_size": 128, "intermediate_size": 512},
    "injection": {"form": "value", "first_layer": 1, "layers": 4, "v_correction_rank": 16},
    "cache": {"folder": "cache"},
    "provenance": {
        "stage": "finetune",
        "sources": [{"role": "llama", "file": "a.pth", "sha256": "0" * 64, "licence": "x"}],
    },
}


def test_defaults_are_those_of_the_released_weights() -> None:
    config = BindServeConfig.from_hf(HF)
    assert config.bind == BindConfig(
        in_features=40,
        hidden_size=128,
        intermediate_size=512,
        blocks=3,
        norm="rmsnorm",
        norm_eps=1e-6,
        bias=False,
    )
    assert config.imagebind.text_only == "zero_image"
    assert config.imagebind.modalities == ("vision", "audio")
    assert config.provenance.sources[0].file == "a.pth"


def test_sections_survive_writing_and_transformers(tmp_path: Path) -> None:
    """vLLM reads config.json with transformers, whose config object must keep the sections."""
    config = BindServeConfig.from_hf(HF)
    (tmp_path / "config.json").write_text(json.dumps({**HF, **config.to_hf()}))
    read = AutoConfig.from_pretrained(tmp_path)
    assert read.model_type == "llama"
    assert BindServeConfig.from_hf(read.to_dict()) == config


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("bind.inner", 512, "bind.inner"),
        ("imagebind.modality", "vision", "imagebind.modality"),
        ("injection.gates", 4, "injection.gates"),
        ("cache.path", "cache", "cache.path"),
        ("provenance.author", "x", "provenance.author"),
        ("provenance.sources", [{"path": "x"}], "provenance.sources.0"),
        ("bind.hidden_size", "128", "bind.hidden_size"),
        ("bind.blocks", 0, "bind.blocks"),
        ("bind.bias", 1, "bind.bias"),
        ("bind.norm", "batchnorm", "bind.norm"),
        ("bind.norm_eps", -1.0, "bind.norm_eps"),
        ("injection.form", "prefix", "injection.form"),
        ("injection.first_layer", -1, "injection.first_layer"),
        ("imagebind.text_only", "nothing", "imagebind.text_only"),
        ("imagebind.modalities", [], "imagebind.modalities"),
        ("provenance.stage", "beta", "provenance.stage"),
        ("cache.folder", "../elsewhere", "cache"),
        ("cache.folder", "/etc", "cache"),
        ("cache.folder", "", "cache"),
        ("bind.in_features", 41, "bind.in_features is 41, but imagebind.embedding_dim is 40"),
        ("bind.hidden_size", 64, "bind.hidden_size is 64, but hidden_size is 128"),
        (
            "injection.layers",
            5,
            "injection.first_layer \\+ layers is 6, but num_hidden_layers is 5",
        ),
    ],
)
def test_refusals_name_the_key(key: str, value: object, named: str) -> None:
    changed = deepcopy(HF)
    section, name = key.split(".")
    changed[section][name] = value
    with pytest.raises(ConfigError, match=f"^config.json: {named}"):
        BindServeConfig.from_hf(changed)


@pytest.mark.parametrize("section", ["imagebind", "bind", "injection", "cache", "provenance"])
def test_every_section_must_be_there(section: str) -> None:
    without = {name: value for name, value in HF.items() if name != section}
    with pytest.raises(ConfigError, match=f"^config.json: {section}: "):
        BindServeConfig.from_hf(without)


def test_the_residual_form_has_no_value_correction() -> None:
    assert InjectionConfig(form="residual", first_layer=0, layers=2).v_correction_rank == 0
    with pytest.raises(ValidationError, match="v_correction_rank"):
        InjectionConfig(form="residual", first_layer=0, layers=2, v_correction_rank=16)


def test_a_model_may_have_no_cache() -> None:
    assert CacheConfig().folder is None
