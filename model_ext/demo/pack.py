"""Write the demonstration model's files for the repository: weights in float16, without the base.

    python -m model_ext.demo.pack --run build/demo/talk --encoders build/demo/pictures/encoders
        --data build/demo/data

`prepare.py` adds the base from its package at the first start of the demonstration.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from model_ext.demo.evaluate import embed_cache
from model_ext.demo.prepare import ENCODERS, WEIGHTS
from model_ext.imagebind.model import ImageBind
from model_ext.train.export import read_settings
from model_ext.train.lm.base import ADAPTER_FILE, SETTINGS_FILE

FEATURES, CAPTIONS = "features.npy", "captions.jsonl"
MAX_FILE_BYTES, MAX_TOTAL_BYTES = 45 << 20, 90 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "encoders", "data"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    pack_adapter(options.run, options.out / WEIGHTS)
    encoders = ImageBind.from_folder(options.encoders).cast(torch.float16)
    encoders.save(options.out / ENCODERS)
    check_sizes(options.out)
    # `bindserve cache build` reads these features. They are computed with the committed encoders.
    served = ImageBind.from_folder(options.out / ENCODERS)
    np.save(options.data / FEATURES, embed_cache(served, options.data).numpy())
    rows = [json.loads(line) for line in (options.data / "cache.jsonl").read_text().splitlines()]
    lines = [json.dumps({"caption": row["text"], "id": row["path"]}) for row in rows]
    (options.data / CAPTIONS).write_text("\n".join(lines) + "\n")


def pack_adapter(run: Path, out: Path) -> None:
    """Write the adapter in float16, and its settings without local paths."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half() for name, tensor in load_file(run / ADAPTER_FILE).items()}
    save_file(tensors, out / ADAPTER_FILE, metadata={"format": "pt"})
    settings = read_settings(run)
    portable = {key: settings[key] for key in ("phase", "base_fingerprint")}
    (out / SETTINGS_FILE).write_text(json.dumps(portable | {"config": {}}, indent=2) + "\n")


def check_sizes(folder: Path) -> None:
    """Check the sizes of the files. Raises SystemExit: when a file, or the sum of all files, is too
    large.
    """
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    too_large = [str(path) for path, size in sizes.items() if size > MAX_FILE_BYTES]
    if too_large or sum(sizes.values()) > MAX_TOTAL_BYTES:
        raise SystemExit(
            f"{folder}: too large to commit: {too_large or f'{sum(sizes.values())} bytes'}"
        )


if __name__ == "__main__":
    main()
