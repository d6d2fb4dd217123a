"""The folder of a flow decoder: `config.json` and `model.safetensors`, in float16."""

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model_ext.decoders.flow import Flow
from model_ext.decoders.flow_config import FlowConfig
from model_ext.weights.errors import ConvertError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_flow(flow: Flow, folder: Path) -> None:
    """Write the folder. If the process is killed, each file is still complete."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half().contiguous() for name, tensor in flow.state_dict().items()}
    temporary = folder / (WEIGHTS + ".new")
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(folder / WEIGHTS)
    (folder / CONFIG).write_text(flow.config.model_dump_json(indent=2) + "\n")


def load_flow(folder: Path, device: torch.device | str = "cpu") -> Flow:
    """Read the folder in float32.

    Raises ConvertError: when a file is missing or invalid, or the tensors do not have the sizes in
    `config.json`.
    """
    try:
        config = FlowConfig.model_validate_json((folder / CONFIG).read_bytes())
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValidationError, SafetensorError) as error:
        raise ConvertError(f"{folder}: not a flow decoder: {error}") from None
    flow = Flow(config)
    try:
        flow.load_state_dict(tensors)
    except RuntimeError as error:
        raise ConvertError(f"{folder / WEIGHTS}: {error}") from None
    return flow.float().to(device).eval()
