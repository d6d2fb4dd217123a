"""The plot of the demonstration's result tables is written as a picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from model_ext.demo.plot import plot


def test_a_picture_of_two_seeds(tmp_path: Path) -> None:
    rows = {"off": 0.4, "on": 0.6, "shuffled": 0.3, "samples": 64}
    plot([{"image": rows, "audio": rows}, {"image": rows, "audio": rows}], tmp_path / "p.png")
    image = Image.open(tmp_path / "p.png")
    assert image.width > 800
    colors = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colors) > 10
