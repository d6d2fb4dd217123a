"""Checkpoints of a run: trained tensors, optimiser state and the number of the next update.

DeepSpeed writes the folder of a tag and then the file `latest`, so a run that is killed while it
saves keeps the previous checkpoint. Export and the next phase read `adapter.safetensors`.
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
    """Save a checkpoint, and delete all checkpoints but the newest `keep`. All processes must call
    this.
    """
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
    """Load the latest checkpoint and return the next update; return 0 if there is none.

    Raises TrainError: when the checkpoint cannot be read.
    """
    folder = out / FOLDER
    if not (folder / "latest").is_file():
        return 0
    path, state = ds_engine.load_checkpoint(str(folder), load_module_strict=False)
    if path is None:
        raise TrainError(f"{folder}: cannot read the checkpoint; delete the folder to start again")
    return int(state["update"])


def write_adapter(ds_engine: Any, out: Path, settings: dict[str, Any]) -> None:
    """Write `adapter.safetensors` and `adapter.json`. All processes must call this."""
    tensors = engine.adapter_tensors(ds_engine)
    if distributed.rank() == 0:
        temporary = out / (ADAPTER_FILE + ".new")
        save_file(tensors, temporary, metadata={"format": "pt"})
        temporary.replace(out / ADAPTER_FILE)
        (out / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n")
    dist.barrier()


def _tag(update: int) -> str:
    return f"update-{update:08d}"
