"""A benchmark's model folder without weights contains all other files that a server reads."""

import json
from pathlib import Path

from transformers import AutoTokenizer

from model_ext.bench.random_model import TINY
from model_ext.bench.serving_folder import TINY_ENCODERS, write_plain_folder, write_serving_folder
from model_ext.config import BindServeConfig
from model_ext.imagebind.config import ImageBindConfig


def test_a_served_folder(tmp_path: Path) -> None:
    write_serving_folder(tmp_path / "model", TINY, TINY_ENCODERS)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    bindserve = BindServeConfig.from_hf(config)
    assert bindserve.imagebind.modalities == TINY_ENCODERS.modalities
    assert bindserve.imagebind.embedding_dim == TINY_ENCODERS.embed_dim
    encoders = (tmp_path / "model" / "encoders" / "config.json").read_bytes()
    assert ImageBindConfig.from_json(encoders) == TINY_ENCODERS
    assert (tmp_path / "model" / "chat_template.jinja").is_file()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_plain_folder_has_the_same_tokenizer(tmp_path: Path) -> None:
    write_plain_folder(tmp_path / "plain", TINY)
    write_serving_folder(tmp_path / "model", TINY, TINY_ENCODERS)
    plain, served = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("plain", "model"))
    assert len(plain) == len(served) == TINY.vocabulary
    assert plain("What is this?").input_ids == served("What is this?").input_ids
