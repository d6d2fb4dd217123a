"""Reading a base LLaMA from Meta's shards or Hugging Face's files, and rejecting other files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from model_ext.convert.llama import Llama
from model_ext.convert.llama_hf import open_hf
from model_ext.convert.llama_meta import open_meta
from model_ext.weights.errors import ConvertError
from tests.model_ext.convert.conftest import TINY, Tensors, load

BASE = TINY / "llama" / "tiny"
BY_INPUT = ("tok_embeddings.", ".wo.", ".w2.")
Make = Callable[..., Path]


def nothing(_: Tensors) -> None:
    """Change nothing."""


def same_tensors(one: Llama, other: Llama) -> bool:
    assert one.tensors.keys() == other.tensors.keys()
    return all(
        torch.equal(lazy.read(), other.tensors[name].read()) for name, lazy in one.tensors.items()
    )


def test_sizes_come_from_params_and_shapes() -> None:
    sizes = open_meta(BASE).sizes
    assert (sizes.hidden_size, sizes.intermediate_size, sizes.num_hidden_layers) == (128, 352, 5)
    assert (sizes.num_attention_heads, sizes.num_key_value_heads, sizes.head_dim) == (4, 4, 32)
    assert (sizes.vocab_size, sizes.rms_norm_eps) == (512, 1e-5)
    assert sizes.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
    assert sizes.max_position_embeddings == 2048
    assert sizes.sliding_window is None


@pytest.mark.parametrize("shards", [2, 4])
@pytest.mark.parametrize("by_input", [BY_INPUT, BY_INPUT[1:]], ids=["llama2", "llama3"])
def test_model_parallel_shards_are_joined(
    tmp_path: Path, shards: int, by_input: tuple[str, ...]
) -> None:
    """Larger LLaMAs have several shards, which split most matrices by rows and some by columns."""
    whole = load(BASE / "consolidated.00.pth")
    for number in range(shards):
        part = {}
        for name, tensor in whole.items():
            axis = 1 if any(word in name for word in by_input) else 0
            split = tensor.ndim == 2
            part[name] = tensor.chunk(shards, axis)[number].clone() if split else tensor
        torch.save(part, tmp_path / f"consolidated.{number:02d}.pth")
    shutil.copyfile(BASE / "params.json", tmp_path / "params.json")
    joined = open_meta(tmp_path)
    assert same_tensors(joined, open_meta(BASE))
    assert joined.fingerprint() == open_meta(BASE).fingerprint()
    assert len(joined.files) == 1 + shards


def test_shards_of_two_models_are_refused(tmp_path: Path) -> None:
    whole = load(BASE / "consolidated.00.pth")
    torch.save(whole, tmp_path / "consolidated.00.pth")
    torch.save({**whole, "norm.weight": whole["norm.weight"] * 2}, tmp_path / "consolidated.01.pth")
    shutil.copyfile(BASE / "params.json", tmp_path / "params.json")
    with pytest.raises(ConvertError, match=r"norm\.weight differs between shards"):
        open_meta(tmp_path)
    torch.save({"norm.weight": whole["norm.weight"]}, tmp_path / "consolidated.01.pth")
    with pytest.raises(ConvertError, match=r"consolidated\.01\.pth: \S+ is not in every shard"):
        open_meta(tmp_path)


def test_both_layouts_give_the_same_base(tmp_path: Path) -> None:
    """Meta's and Hugging Face's layouts of a base give equal tensors, which transformers loads."""
    meta = open_meta(BASE)
    tensors = {name: lazy.read().contiguous() for name, lazy in meta.tensors.items()}
    save_hf(tmp_path, tensors)
    from_hf = open_hf(tmp_path)
    assert same_tensors(from_hf, meta)
    assert from_hf.sizes == meta.sizes
    assert from_hf.fingerprint() == meta.fingerprint()
    model, report = LlamaForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, dtype=torch.float32
    )
    assert not any(report.values())
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 512)


def save_hf(folder: Path, tensors: Tensors, **changes: Any) -> None:
    sizes = open_meta(BASE).sizes
    config = LlamaConfig(
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=5,
        num_attention_heads=4,
        vocab_size=512,
        rms_norm_eps=1e-5,
        max_position_embeddings=sizes.max_position_embeddings,
        **{"architectures": ["LlamaForCausalLM"], **changes},
    )
    (folder / "config.json").write_text(config.to_json_string())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_tied_embeddings_need_no_output_matrix(tmp_path: Path) -> None:
    tensors = {name: lazy.read().contiguous() for name, lazy in open_meta(BASE).tensors.items()}
    del tensors["lm_head.weight"]
    save_hf(tmp_path, tensors, tie_word_embeddings=True)
    base = open_hf(tmp_path)
    assert base.sizes.tie_word_embeddings
    assert "lm_head.weight" not in base.tensors


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, "architectures is .*Qwen2.*; supported"),
        ({"architectures": None}, "architectures is None"),
        ({"architectures": ["LlamaForCausalLM"] * 2}, "architectures"),
        ({"attention_bias": True}, "a base with biases"),
        ({"mlp_bias": True}, "a base with biases"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
    ],
)
def test_other_architectures_are_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    save_hf(tmp_path, {"x": torch.zeros(1)}, **changes)
    with pytest.raises(ConvertError, match=rf"config\.json: .*{reason}"):
        open_hf(tmp_path)


def test_a_second_copy_in_another_layout_is_left_alone(tmp_path: Path) -> None:
    """The converter ignores a second copy of the weights in Mistral's layout."""
    tensors = {name: lazy.read().contiguous() for name, lazy in open_meta(BASE).tensors.items()}
    save_hf(tmp_path, tensors)
    save_file({"layers.0.wq": torch.zeros(1)}, tmp_path / "consolidated.safetensors")
    base = open_hf(tmp_path)
    assert [path.name for path in base.files] == ["config.json", "model.safetensors"]


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    tensors = {name: lazy.read().contiguous() for name, lazy in open_meta(BASE).tensors.items()}
    save_hf(tmp_path, tensors)
    save_file({"model.norm.weight": torch.zeros(128)}, tmp_path / "model-2.safetensors")
    with pytest.raises(ConvertError, match=r"model\.norm\.weight is in another file too"):
        open_hf(tmp_path)


def test_hf_files_are_checked(tmp_path: Path) -> None:
    save_hf(tmp_path, {"model.norm.weight": torch.zeros(128)})
    with pytest.raises(ConvertError, match=r"missing lm_head\.weight, .* more"):
        open_hf(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ConvertError, match=r"model\.safetensors: not a safetensors file"):
        open_hf(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConvertError, match="neither"):
        open_hf(tmp_path)


def test_delta_is_added_in_float32_and_rounded_to_half(llama_folder: Make) -> None:
    def small(tensors: Tensors) -> None:
        torch.manual_seed(0)
        for name, tensor in tensors.items():
            tensors[name] = (torch.randn(tensor.shape) * 0.01).half()

    delta = llama_folder(small, "delta")
    changed, base, change = open_meta(BASE, delta), open_meta(BASE), open_meta(delta)
    for name, lazy in changed.tensors.items():
        expected = (base.tensors[name].read().float() + change.tensors[name].read().float()).half()
        assert torch.equal(lazy.read(), expected), name
    assert changed.fingerprint() != base.fingerprint()
    assert delta / "consolidated.00.pth" in changed.files


def test_a_patched_base_is_float16(llama_folder: Make) -> None:
    """The sum of a base and a patch (delta) is computed in float16, even if the base is in
    float32.
    """

    def wide(tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            tensors[name] = tensor.float()

    base, delta = llama_folder(wide, "wide"), llama_folder(nothing, "delta")
    for lazy in open_meta(base, delta).tensors.values():
        assert lazy.dtype == lazy.load().dtype == torch.float16


def test_rotary_frequencies_need_no_patch(llama_folder: Make) -> None:
    """A patch (delta) may lack the rotary frequencies, which some bases contain."""
    assert "rope.freqs" in load(BASE / "consolidated.00.pth")
    delta = llama_folder(lambda tensors: tensors.pop("rope.freqs"), "delta")
    assert "model.norm.weight" in open_meta(BASE, delta).tensors


def test_a_patch_to_another_model_is_refused(llama_folder: Make) -> None:
    delta = llama_folder(nothing, "delta")
    assert open_meta(BASE, delta)
    params = json.loads((delta / "params.json").read_text())
    (delta / "params.json").write_text(json.dumps({**params, "norm_eps": 1e-6}))
    with pytest.raises(ConvertError, match=r"delta/params\.json: norm_eps is 1e-06, but 1e-05 in"):
        open_meta(BASE, delta)


def test_missing_tensor_is_named(llama_folder: Make) -> None:
    folder = llama_folder(lambda tensors: tensors.pop("layers.3.attention.wo.weight"))
    with pytest.raises(ConvertError, match=r"base: missing layers\.3\.attention\.wo\.weight$"):
        open_meta(folder)


@pytest.mark.parametrize("name", ["output.weight", "layers.0.feed_forward.w1.weight"])
def test_missing_tensor_that_tells_a_size_is_named(llama_folder: Make, name: str) -> None:
    folder = llama_folder(lambda tensors: tensors.pop(name))
    with pytest.raises(ConvertError, match=f"base: missing {name}"):
        open_meta(folder)


def test_left_over_tensor_is_named(llama_folder: Make) -> None:
    folder = llama_folder(lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(ConvertError, match=r"base: has tensors that the .*: extra$"):
        open_meta(folder)


def test_wrong_width_is_named(llama_folder: Make) -> None:
    folder = llama_folder(lambda tensors: tensors.update({"norm.weight": torch.zeros(127)}))
    with pytest.raises(ConvertError, match=r"norm\.weight has shape \(127,\), expected \(128,\)"):
        open_meta(folder)


def test_integers_are_no_weights(llama_folder: Make) -> None:
    change = {"norm.weight": torch.zeros(128, dtype=torch.int8)}
    folder = llama_folder(lambda tensors: tensors.update(change))
    with pytest.raises(ConvertError, match=r"norm\.weight holds torch\.int8"):
        open_meta(folder)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"use_sliding_rope": True}, "use_sliding_rope is not supported"),
        ({"use_scaled_rope": True}, "use_scaled_rope without rope_scaling_factor"),
        ({"rope_theta": "large"}, "rope_theta must be a number of at least 1, got 'large'"),
        ({"use_scaled_rope": True, "rope_scaling_factor": 0}, "rope_scaling_factor must be"),
        ({"max_seq_len": -1}, "max_seq_len must be a positive integer"),
        ({"dim": "128"}, "dim must be a positive integer, got '128'"),
        ({"n_heads": 5}, "n_heads 5 does not divide dim 128 into even heads"),
        ({"n_layers": 0}, "n_layers must be a positive integer"),
    ],
)
def test_params_are_checked(llama_folder: Make, params: dict[str, Any], reason: str) -> None:
    folder = llama_folder(nothing)
    base_params = json.loads((folder / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps({**base_params, **params}))
    with pytest.raises(ConvertError, match=rf"params\.json: {reason}"):
        open_meta(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 10000, "{}"])
def test_broken_params_are_refused(llama_folder: Make, text: str) -> None:
    folder = llama_folder(nothing)
    (folder / "params.json").write_text(text)
    with pytest.raises(ConvertError, match=r"params\.json"):
        open_meta(folder)


def test_grouped_value_heads_and_rope_base_of_later_llamas(llama_folder: Make) -> None:
    def group(tensors: Tensors) -> None:
        for i in range(5):
            for name in ("wk", "wv"):
                key = f"layers.{i}.attention.{name}.weight"
                tensors[key] = tensors[key][:64].clone()

    folder = llama_folder(group)
    base_params = json.loads((folder / "params.json").read_text())
    later = {"n_kv_heads": 2, "rope_theta": 500000.0, "ffn_dim_multiplier": 1.3}
    (folder / "params.json").write_text(json.dumps({**base_params, **later}))
    base = open_meta(folder)
    assert base.sizes.num_key_value_heads == 2
    assert base.sizes.rope_parameters == {"rope_type": "default", "rope_theta": 500000.0}
    assert base.sizes.max_position_embeddings == 8192
    assert base.tensors["model.layers.0.self_attn.k_proj.weight"].load().shape == (64, 128)


def test_an_empty_folder_is_no_llama(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="not a LLaMA"):
        open_meta(tmp_path)


def test_fingerprint_tells_bases_apart(llama_folder: Make) -> None:
    base = open_meta(BASE).fingerprint()
    assert open_meta(llama_folder(nothing, "same")).fingerprint() == base
    for name in ("norm.weight", "tok_embeddings.weight", "layers.0.feed_forward.w2.weight"):

        def change(tensors: Tensors, name: str = name) -> None:
            tensors[name].view(-1)[0] += 1

        assert open_meta(llama_folder(change, name)).fingerprint() != base
