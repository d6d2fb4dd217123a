"""Checkpoints of a run: trained tensors and optimiser only, and the update to go on with.

DeepSpeed writes the folder of a tag and then the file `latest`, so a killed run leaves the
checkpoint before. Beside them lies `adapter.safetensors`, which export and the next phase read.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors.torch import save_file

from model_ext.train import distributed, engine
from model_ext.train.errors import TrainError
from model_ext.train.lm.base import ADAPTER_FILE, SETTINGS_FILE

FOLDER = "checkpoints"


def save(ds_engine: Any, out: Path, update: int, keep: int) -> None:
    """All processes call this. The oldest checkpoints beyond `keep` go."""
    folder = out / FOLDER
    ds_engine.save_checkpoint(
        str(folder),
        tag=_tag(update),
        client_state={"update": update},
        exclude_frozen_parameters=True,
    )
    dist.barrier()
    if distributed.first_on_host():
        for old in sorted(folder.glob("update-*"))[:-keep]:
            shutil.rmtree(old, ignore_errors=True)


def resume(ds_engine: Any, out: Path) -> int:
    """The next update, 0 in a fresh run."""
    folder = out / FOLDER
    if not (folder / "latest").is_file():
        return 0
    path, state = ds_engine.load_checkpoint(str(folder), load_module_strict=False)
    if path is None:
        raise TrainError(f"{folder}: the checkpoint cannot be read; remove the folder to restart")
    return int(state["update"])


def write_adapter(ds_engine: Any, out: Path, settings: dict[str, Any]) -> None:
    """`adapter.safetensors` and what is not in its shapes. All processes call this."""
    tensors = engine.adapter_tensors(ds_engine)
    if distributed.rank() == 0:
        beside = out / (ADAPTER_FILE + ".new")
        save_file(tensors, beside, metadata={"format": "pt"})
        beside.replace(out / ADAPTER_FILE)
        (out / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n")
    dist.barrier()


def _tag(update: int) -> str:
    return f"update-{update:08d}"
