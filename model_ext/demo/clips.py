"""Write clips, which are MP4 files in which a camera zooms into a picture and pans over it.

Needs OpenCV, which vLLM installs.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SECONDS, RATE = 4, 12
WIDTH, HEIGHT = 320, 240


def write_clip(picture: Image.Image, path: Path, rng: np.random.Generator) -> None:
    """Write a clip of an RGBA picture on a white background.

    Raises OSError: when OpenCV cannot encode mp4v.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The zoom (picture's side / frame's height) and the shift (relative to the frame's width), each
    # at the start and at the end of the clip
    start, end = rng.uniform(0.7, 1.1, 2)
    shifts = rng.uniform(-0.12, 0.12, (2, 2))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise OSError(f"{path}: this OpenCV has no mp4v encoder; install opencv-python-headless")
    for frame in range(SECONDS * RATE):
        t = frame / (SECONDS * RATE - 1)
        side = round(HEIGHT * ((1 - t) * start + t * end))
        x, y = (WIDTH * ((1 - t) * shifts[0] + t * shifts[1])).round().astype(int)
        scaled = picture.resize((side, side))
        canvas = Image.new("RGB", (WIDTH, HEIGHT), "white")
        canvas.paste(scaled, ((WIDTH - side) // 2 + int(x), (HEIGHT - side) // 2 + int(y)), scaled)
        writer.write(np.asarray(canvas)[..., ::-1])
    writer.release()
