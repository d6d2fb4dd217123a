"""Copy the example media of `bindserve demo` from the test split.

    python -m model_ext.demo.copy_media --data build/demo/data

The training data do not contain the styles, voices and shapes of these files. The files are
committed.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from model_ext.demo.questions import CLIP, CLOUD, MEDIA, PICTURE, WORD


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    MEDIA.mkdir(exist_ok=True)
    picture = data / "image" / "noto" / Path(PICTURE).with_suffix(".png")
    Image.open(picture).convert("RGB").save(MEDIA / PICTURE, quality=90)
    shutil.copy(data / "audio" / "Jacky" / f"{Path(WORD).stem}-0.wav", MEDIA / WORD)
    write_ply(np.load(data / "point" / "noto" / Path(CLOUD).with_suffix(".npy")), MEDIA / CLOUD)
    shutil.copy(data / "video" / "noto" / CLIP, MEDIA / CLIP)


def write_ply(cloud: np.ndarray, path: Path) -> None:
    """Write (N, 3) float32 as a binary PLY file."""
    axes = "".join(f"property float {axis}\n" for axis in "xyz")
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(cloud)}\n{axes}end_header\n"
    )
    path.write_bytes(header.encode() + cloud.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
