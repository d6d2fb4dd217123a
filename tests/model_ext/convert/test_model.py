"""A conversion writes a complete model folder, or no folder."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from model_ext.checks.golden import Golden
from model_ext.config import BindServeConfig
from model_ext.convert.encoders import Encoders
from model_ext.convert.model import Options, convert
from model_ext.convert.provenance import Licences
from model_ext.convert.sources import Sources
from model_ext.imagebind.model import ImageBind
from model_ext.manifest import Manifest
from model_ext.weights.errors import ConvertError
from model_ext.weights.folder import partial_folder
from tests.model_ext.convert.conftest import TINY, Tensors, load

Make = Callable[..., Path]
QUIET = Options(golden=False, progress=False)
FLOAT32 = Options(dtype=torch.float32, golden=False, progress=False)
FILES = {
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "manifest.json",
    "encoders",
    "model-00001-of-00001.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
}


def test_the_folder_is_complete(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "models" / "tiny"
    config = convert(sources, out, FLOAT32)
    assert {path.name for path in out.iterdir()} == FILES
    # the conversion has removed its temporary folder
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]
    document = json.loads((out / "config.json").read_text())
    assert BindServeConfig.from_hf(document) == config
    assert document["architectures"] == ["ImageBindLLMForCausalLM"]
    assert config.imagebind.modalities[0] == "vision"
    assert config.imagebind.embedding_dim == 40
    assert config.cache.folder is None


def test_transformers_reads_it_as_a_llama(sources: Sources, tmp_path: Path) -> None:
    """transformers loads a converted folder as a LLaMA, without bind network and injection."""
    out = tmp_path / "tiny"
    convert(sources, out, FLOAT32)
    assert AutoConfig.from_pretrained(out).attention_bias is True
    assert AutoTokenizer.from_pretrained(out).bos_token_id == 1
    model, report = LlamaForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    assert {name.split(".")[0] for name in report["unexpected_keys"]} == {"bind", "injection"}
    assert model.dtype == torch.float32


def test_names_of_bind_network_and_injection(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    convert(sources, out, QUIET)
    with safe_open(out / "model-00001-of-00001.safetensors", "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        assert file.get_slice("injection.gate").get_dtype() == "F32"
        assert file.get_slice("bind.proj.weight").get_dtype() == "BF16"
    own = {name: shape for name, shape in shapes.items() if not name.startswith(("model.", "lm_"))}
    expected = {
        "bind.proj.weight": [128, 40],
        "bind.proj.bias": [128],
        "injection.gate": [4, 4],
        "injection.query": [4, 128],
        "injection.v_lora_a": [4, 16, 128],
        "injection.v_lora_b": [4, 128, 16],
    }
    for j in range(3):
        expected[f"bind.blocks.{j}.norm.weight"] = [128]
        expected[f"bind.blocks.{j}.gate_proj.weight"] = [512, 128]
        expected[f"bind.blocks.{j}.up_proj.weight"] = [512, 128]
        expected[f"bind.blocks.{j}.down_proj.weight"] = [128, 512]
    assert own == expected


def test_provenance_names_every_source(sources: Sources, tmp_path: Path) -> None:
    licences = Licences(llama="Apache-2.0")
    config = convert(replace(sources, licences=licences), tmp_path / "tiny", QUIET)
    recorded = {(source.role, source.file): source for source in config.provenance.sources}
    assert recorded.keys() == {
        ("llama", "params.json"),
        ("llama", "consolidated.00.pth"),
        ("adapter", "adapter-finetune.pth"),
        ("imagebind", "imagebind_w3D.pth"),
        ("imagebind", "imagebind_config.json"),
        ("tokenizer", "tokenizer.model"),
    }
    adapter = recorded["adapter", "adapter-finetune.pth"]
    assert adapter.sha256 == hashlib.sha256(sources.adapter.read_bytes()).hexdigest()
    assert recorded["llama", "params.json"].licence == "Apache-2.0"
    assert recorded["imagebind", "imagebind_w3D.pth"].licence == "CC-BY-NC-SA 4.0"
    assert config.provenance.stage == "finetune"
    assert config.provenance.base_fingerprint


def test_encoders_are_copied_exactly(sources: Sources, tmp_path: Path) -> None:
    convert(sources, tmp_path / "tiny", QUIET)
    model = ImageBind.from_folder(tmp_path / "tiny" / "encoders")
    released = load(sources.imagebind)
    name = "modality_trunks.vision.blocks.0.attn.in_proj_weight"
    copied = model.state_dict()["vision.trunk.blocks.0.attention.qkv_proj.weight"]
    assert torch.equal(copied, released[name])


def test_imagebind_without_points(sources: Sources, tmp_path: Path) -> None:
    """imagebind_huge.pth has no point encoder. The option `imagebind_config` gives its sizes."""
    huge = tmp_path / "imagebind_huge.pth"
    tensors = load(sources.imagebind)
    torch.save({name: tensor for name, tensor in tensors.items() if "point" not in name}, huge)
    sizes = TINY / "imagebind_config.json"
    changed = replace(sources, imagebind=huge, imagebind_config=sizes)
    config = convert(changed, tmp_path / "tiny", QUIET)
    assert "point" not in config.imagebind.modalities
    assert "vision" in config.imagebind.modalities


def test_wrong_encoders_are_named(sources: Sources, tmp_path: Path) -> None:
    imagebind = tmp_path / "imagebind.pth"
    tensors = load(sources.imagebind)
    torch.save(tensors, imagebind)  # Without a file of sizes, the released sizes apply.
    with pytest.raises(ConvertError, match=r"imagebind\.pth: .*\(sizes from the release\)"):
        convert(replace(sources, imagebind=imagebind), tmp_path / "tiny", QUIET)
    torch.save({**tensors, "extra": torch.zeros(1)}, imagebind)
    (tmp_path / "imagebind_config.json").write_bytes((TINY / "imagebind_config.json").read_bytes())
    with pytest.raises(ConvertError, match=r"imagebind\.pth: .*extra"):
        convert(replace(sources, imagebind=imagebind), tmp_path / "tiny", QUIET)


def test_adapter_of_another_embedding_width(
    sources: Sources, adapter_file: Make, tmp_path: Path
) -> None:
    change = {"image_bind_proj.weight": torch.zeros(128, 64)}
    path = adapter_file(lambda tensors: tensors.update(change))
    message = r"image_bind_proj\.weight takes embeddings of 64 numbers, but those of .* have 40"
    with pytest.raises(ConvertError, match=message):
        convert(replace(sources, adapter=path), tmp_path / "tiny", QUIET)


@pytest.mark.parametrize("broken", ["llama", "adapter", "imagebind", "tokenizer"])
def test_a_failed_conversion_leaves_no_files(broken: str, sources: Sources, tmp_path: Path) -> None:
    changed: dict[str, Any] = {broken: tmp_path / "gone"}
    out = tmp_path / "out" / "tiny"
    with pytest.raises(ConvertError, match="gone"):
        convert(replace(sources, **changed), out, QUIET)
    assert list(out.parent.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from model_ext.weights import ledger
from model_ext.convert.model import Options, convert
from model_ext.convert.sources import Sources

llama, adapter, imagebind, out = map(Path, sys.argv[1:])
write = ledger.Ledger.write

def write_three(self, name, chunks, progress=None):
    if name == "model-00003-of-00005.safetensors":
        chunks = list(chunks)[:2]  # a part of the third, then the end
        (self.folder / f"{name}.partial").write_bytes(b"".join(chunks))
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, name, chunks)

ledger.Ledger.write = write_three
options = Options(dtype=torch.float32, max_shard_size=1_600_000, golden=False, progress=False)
convert(Sources(llama=llama, adapter=adapter, imagebind=imagebind), out, options)
"""


def test_a_killed_conversion_is_resumed(sources: Sources, tmp_path: Path) -> None:
    """A resumed conversion keeps finished shards, and gives the result of an uninterrupted one."""
    out = tmp_path / "out" / "tiny"
    paths = (sources.llama, sources.adapter, sources.imagebind, out)
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, paths)], timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    partial = partial_folder(out)
    finished = {path.name: path.stat() for path in partial.glob("*.safetensors")}
    assert sorted(finished) == [f"model-0000{i}-of-00005.safetensors" for i in (1, 2)]

    options = replace(FLOAT32, max_shard_size=1_600_000)
    convert(sources, out, options)
    for name, before in finished.items():
        now = (out / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    convert(sources, tmp_path / "undisturbed", options)
    names = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    # FILES has one shard and the folder `encoders`. Here are 5 shards, and `encoders` has 2 files.
    assert len(names) == len(FILES) + 4 + 1
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name


def test_a_changed_source_is_converted_again(
    sources: Sources, adapter_file: Make, tmp_path: Path
) -> None:
    """If a source file has other content, but the same name and size, the conversion starts
    again.
    """

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out" / "tiny"
    adapter = adapter_file(len)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoders, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert(replace(sources, adapter=adapter), out, FLOAT32)
    adapter_file(lambda tensors: tensors["llama.norm.weight"].mul_(2))
    convert(replace(sources, adapter=adapter), out, FLOAT32)
    with safe_open(out / "model-00001-of-00001.safetensors", "pt") as file:
        norm = file.get_tensor("model.norm.weight")
    assert torch.equal(norm, load(sources.adapter)["llama.norm.weight"] * 2)


def test_the_manifest_lists_every_file(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    convert(sources, out, QUIET)
    manifest = Manifest.read(out)
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert manifest.files.keys() == names - {"manifest.json"}
    assert list(manifest.damaged(out)) == []


def test_a_small_model_records_its_answers(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    convert(sources, out, Options(dtype=torch.float32, progress=False))
    golden = Golden.read(out)
    assert len(golden.answers) == 2
    assert set(golden.encoders) == {*ImageBind.from_folder(out / "encoders").modalities}
    assert "golden.json" in Manifest.read(out).files


def test_weights_without_an_answer_are_refused(
    sources: Sources, adapter_file: Make, tmp_path: Path
) -> None:
    """The converter rejects weights whose answers are not finite, as after a diverged training."""
    adapter = adapter_file(lambda tensors: tensors["llama.norm.weight"].fill_(float("nan")))
    with pytest.raises(ConvertError, match="not a number"):
        convert(replace(sources, adapter=adapter), tmp_path / "tiny", Options(progress=False))


def test_an_existing_folder_is_not_touched(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ConvertError, match="exists already"):
        convert(sources, tmp_path, QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_hugging_face_base(sources: Sources, tmp_path: Path) -> None:
    """A base in Hugging Face's layout gives the same weights as the same base in Meta's layout."""
    first = tmp_path / "first"
    convert(replace(sources, adapter=TINY / "adapter-pretrain.pth"), first, FLOAT32)
    base = tmp_path / "base"
    LlamaForCausalLM.from_pretrained(first).save_pretrained(base)
    changed = replace(sources, llama=base, tokenizer=first / "tokenizer.json")
    one = convert(changed, tmp_path / "one", FLOAT32)
    other = convert(sources, tmp_path / "other", FLOAT32)
    assert one.provenance.base_fingerprint == other.provenance.base_fingerprint
    weights = "model-00001-of-00001.safetensors"
    assert (tmp_path / "one" / weights).read_bytes() == (tmp_path / "other" / weights).read_bytes()


def test_a_delta_needs_metas_layout(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    message = "a delta needs a base in Meta's layout, not in Hugging Face's"
    with pytest.raises(ConvertError, match=message):
        convert(replace(sources, llama=tmp_path, delta=tmp_path), tmp_path / "x", QUIET)


def test_a_delta_is_recorded(sources: Sources, llama_folder: Make, tmp_path: Path) -> None:
    def zeros(tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            tensors[name] = torch.zeros_like(tensor)

    delta = llama_folder(zeros, "delta")
    config = convert(replace(sources, delta=delta), tmp_path / "tiny", QUIET)
    files = [source.file for source in config.provenance.sources if source.role == "llama"]
    assert files == ["params.json", "consolidated.00.pth", "consolidated.00.pth"]
