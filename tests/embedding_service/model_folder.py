"""Write a model folder of encoders alone: with the demonstration model's encoders, or sizes only.

python -m tests.embedding_service.model_folder FOLDER
"""

import json
import shutil
import sys
from pathlib import Path

from model_ext import demo
from model_ext.config import ENCODERS_ALONE, CacheConfig, EncodersConfig, EncoderSummary, Provenance
from model_ext.imagebind.config import ImageBindConfig

DEMO = Path(demo.__file__).with_name("encoders")


def write_demo(folder: Path) -> Path:
    shutil.copytree(DEMO, folder / "encoders")
    return write_config(folder, ImageBindConfig.from_json((DEMO / "config.json").read_bytes()))


def write_sizes(folder: Path, sizes: ImageBindConfig) -> Path:
    """Write a folder without weights, for a server with `encode_load_format: dummy`."""
    (folder / "encoders").mkdir(parents=True)
    (folder / "encoders" / "config.json").write_text(sizes.to_json())
    return write_config(folder, sizes)


def write_config(folder: Path, sizes: ImageBindConfig) -> Path:
    sections = EncodersConfig(
        imagebind=EncoderSummary(modalities=sizes.modalities, embedding_dim=sizes.embed_dim),
        cache=CacheConfig(folder=None),
        provenance=Provenance(stage="encoders", sources=()),
    )
    config = {"architectures": [ENCODERS_ALONE], "model_type": "imagebind", **sections.to_hf()}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    print(write_demo(Path(sys.argv[1])))
