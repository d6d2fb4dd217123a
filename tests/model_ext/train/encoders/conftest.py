"""A small data set for training encoders: pictures, sounds, clouds and texts of a few keys."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageDraw

from model_ext.train.encoders.config import EncodersConfig

KEYS = ("bar", "line", "dot", "board")
BOXES = ((17, 2, 23, 38), (2, 17, 38, 23), (14, 14, 26, 26), (2, 2, 38, 38))
COLORS = ((220, 30, 30, 255), (30, 30, 220, 255), (20, 20, 20, 255), (60, 200, 60, 255))
SIZES = {
    "embed_dim": 16,
    "vision": {"width": 16, "blocks": 1, "heads": 2, "image_size": 32, "patch_size": 16},
    "text": {"width": 16, "blocks": 1, "heads": 2, "context_length": 8},
    "audio": {"width": 16, "blocks": 1, "heads": 2, "kernel_size": 32, "stride": 32},
    "imu": {"width": 16, "blocks": 1, "heads": 2, "steps": 40},
    "point": {
        "points": 32,
        **{"width": 16, "blocks": 1, "heads": 2, "groups": 8, "group_size": 4},
        **{"first_hidden": 8, "first_width": 8, "second_hidden": 16, "group_width": 16},
        **{"position_hidden": 8, "projection": 16},
    },
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    rows = []
    for number, key in enumerate(KEYS):
        for take in range(2):
            name = f"{key}{take}"
            picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
            ImageDraw.Draw(picture).rectangle(BOXES[number], fill=COLORS[number])
            picture.save(folder / f"{name}.png")
            time = np.arange(16_000) / 16_000
            tone = np.sin(2 * np.pi * 300 * (number + 1) * time) + 0.01 * rng.normal(size=16_000)
            soundfile.write(folder / f"{name}.wav", 0.5 * tone, 16_000)
            cloud = rng.normal(size=(64, 3)) * np.roll([1.0, 0.2, 0.1], number)
            np.save(folder / f"{name}.npy", cloud.astype(np.float32))
            motion = np.full((6, 40), number, np.float32)
            np.save(folder / f"{name}-imu.npy", motion)
            for modality, path in (
                ("image", f"{name}.png"),
                ("audio", f"{name}.wav"),
                ("point", f"{name}.npy"),
                ("imu", f"{name}-imu.npy"),
            ):
                rows.append({"key": key, "modality": modality, "path": path})
        rows.append({"key": key, "modality": "text", "text": f"the {key} one"})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(text)
    return folder


@pytest.fixture
def config(world: Path, tmp_path: Path) -> EncodersConfig:
    return EncodersConfig(
        out=tmp_path / "run",
        train_list=world / "train.jsonl",
        encoders=SIZES,
        train=("vision", "text", "audio", "point", "imu"),
        steps=6,
        batch=4,
        warmup_steps=2,
        image_side=32,
        threads=1,
    )
