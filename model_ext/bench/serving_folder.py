"""Write model folders without weights. Servers use random weights (load format `dummy`)."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from model_ext.bench.random_model import Shape, injected_config, plain_config
from model_ext.bench.random_tokenizer import write_tokenizer
from model_ext.convert.tokenizer import write_tokenizer as convert_tokenizer
from model_ext.imagebind.config import AudioConfig, ImageBindConfig, PointConfig, VisionConfig

TINY_ENCODERS = ImageBindConfig(
    vision=VisionConfig(width=32, blocks=2, heads=4),
    audio=AudioConfig(width=24, blocks=2, heads=3),
    point=PointConfig(width=24, blocks=2, heads=3, groups=64, group_size=16),
)


def write_serving_folder(folder: Path, shape: Shape, encoders: ImageBindConfig) -> None:
    """Write a folder for `bindserve serve`: configurations, tokenizer and chat template."""
    write_llm_folder(folder, shape, injected_config(shape, encoders.modalities))
    (folder / "encoders").mkdir(exist_ok=True)
    (folder / "encoders" / "config.json").write_text(encoders.to_json())


def write_plain_folder(folder: Path, shape: Shape) -> None:
    """Write a folder of the same language model for `vllm serve`."""
    write_llm_folder(folder, shape, plain_config(shape))


def write_llm_folder(folder: Path, shape: Shape, config: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        source = Path(scratch) / "tokenizer.model"
        write_tokenizer(source, shape.vocabulary)
        convert_tokenizer(source, folder, shape.vocabulary)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
