"""Export a training run as a model folder, with the writer of the converter.

The export reads the files of a run (`adapter.safetensors`, `adapter.json`) and an encoders' folder.
The tensors in these files have the names that the converter uses.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open

from model_ext.config import BindServeConfig, InjectionForm
from model_ext.convert.adapter import Adapter
from model_ext.convert.encoders import Encoders
from model_ext.convert.llama import Llama
from model_ext.convert.model import Options, write_opened
from model_ext.convert.provenance import Licences
from model_ext.convert.sources import Opened
from model_ext.convert.tokenizer import find_tokenizer
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import CONFIG_FILE, TENSORS_FILE
from model_ext.train.errors import TrainError
from model_ext.train.lm.base import ADAPTER_FILE, SETTINGS_FILE, open_base
from model_ext.train.lm.phase import is_trained
from model_ext.weights.folder import new_folder
from model_ext.weights.tensors import LazyTensor

OWN = Licences(llama="as the base", adapter="as trained by you", imagebind="as trained by you")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def export_run(
    run: Path,
    out: Path,
    *,
    base: Path | None = None,
    encoders: Path | None = None,
    dtype: str = "bfloat16",
    licences: Licences = OWN,
    cache: str | None = None,
    progress: bool = True,
) -> BindServeConfig:
    """Write the model directory `out`. `cache`: name of a sub-folder to which the caller writes a
    retrieval cache. After an error, no folder `out` exists. Raises TrainError: when a file of the
    run is missing or does not fit.
    """
    if dtype not in DTYPES:
        raise TrainError(f"dtype: must be one of {', '.join(DTYPES)}, not {dtype!r}")
    opened = open_run(run, base, encoders, licences)
    with new_folder(out) as folder:
        options = Options(dtype=DTYPES[dtype], progress=progress)
        return write_opened(opened, folder, options, cache=cache)


def open_run(
    run: Path, base: Path | None = None, encoders: Path | None = None, licences: Licences = OWN
) -> Opened:
    """Open a run's files with its base and encoders.

    Raises TrainError: when a file is missing or does not fit; the message names it.
    """
    settings = read_settings(run)
    folder = base or Path(settings["base"])
    llama = open_base(folder)
    if llama.fingerprint() != settings["base_fingerprint"]:
        raise TrainError(f"{folder}: this is not the base that {run} was trained on")
    adapter = open_trained(run / ADAPTER_FILE, llama, settings["phase"])
    trunks = open_folder(encoders or Path(settings["encoders"]))
    if trunks.config.embed_dim != adapter.sizes["D"]:
        raise TrainError(
            f"{trunks.files[0]}: embeddings have {trunks.config.embed_dim} elements, but the bind "
            f"network takes {adapter.sizes['D']}"
        )
    configured = settings["config"].get("tokenizer")
    tokenizer = Path(configured) if configured and base is None else find_tokenizer(folder)
    return Opened(llama, adapter, trunks, tokenizer, licences)


def read_settings(run: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads((run / SETTINGS_FILE).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise TrainError(
            f"{run / SETTINGS_FILE}: {error}; a run writes this file when it finishes"
        ) from None
    return settings


def open_trained(path: Path, llama: Llama, phase: Literal["pretrain", "finetune"]) -> Adapter:
    tensors = open_safetensors(path)
    gates = [lazy for name, lazy in tensors.items() if name.startswith("injection.gate.")]
    form: InjectionForm = "residual" if gates and gates[0].shape == (1,) else "value"
    try:
        sizes = {
            **llama.sizes.letters,
            "J": sum(name.endswith(".norm.weight") for name in tensors if name.startswith("bind.")),
            "D": tensors["bind.proj.weight"].shape[1],
            "W": tensors["bind.blocks.0.gate_proj.weight"].shape[0],
            "q": len(gates) if form == "residual" else tensors["injection.query"].shape[0],
            "r": tensors["model.layers.0.self_attn.q_proj.lora_a"].shape[0]
            if phase == "finetune"
            else 0,
        }
    except KeyError as error:
        raise TrainError(f"{path}: tensor {error} is missing") from None
    unknown = [n for n in tensors if not is_trained(n, "pretrain") and not is_trained(n, phase)]
    if unknown:
        raise TrainError(f"{path}: {phase} does not train the tensor {unknown[0]}")
    return Adapter(path, phase, False, sizes, tensors, form)


def open_folder(encoders: Path) -> Encoders:
    try:
        config = ImageBindConfig.from_json((encoders / CONFIG_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise TrainError(f"{encoders}: not an encoders' folder: {error}") from None
    tensors = open_safetensors(encoders / TENSORS_FILE)
    return Encoders(config, list(tensors.values()), (encoders / TENSORS_FILE,))


def open_safetensors(path: Path) -> dict[str, LazyTensor]:
    """Return name -> tensor. A tensor is read from the file when it is used."""
    try:
        with safe_open(path, "pt") as file:
            return {
                name: LazyTensor(
                    name,
                    tuple(file.get_slice(name).get_shape()),
                    file.get_tensor(name).dtype,
                    partial(_read, path, name),
                )
                for name in file.keys()  # noqa: SIM118 - not a dict
            }
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{path}: {error}") from None


def _read(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, "pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor.clone()
