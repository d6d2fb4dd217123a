"""Measure the constants of deploy/plan.py on this machine: CPU seconds to decode an attachment.

    python -m deploy.measure

CPU time of one thread, so that other programs disturb little; median of several, released sizes.
"""

import statistics
import time

import numpy as np
import torch
from PIL import Image

from deploy.loadtest.media import avi, cloud, jpeg, npy, picture, tone, wav, zoom
from model_ext.imagebind.preprocess.registry import preprocess

REPEATS = 7


def samples() -> dict[str, tuple[str, bytes]]:
    """What people send, about: a photograph, ten seconds of sound and of video, a scan."""
    rng = np.random.default_rng(0)
    grain = Image.fromarray(rng.integers(0, 256, (1200, 1600, 3), dtype=np.uint8))
    photograph = Image.blend(picture(rng, 1600, 1200), grain, 0.15)
    frames = [jpeg(frame) for frame in zoom(picture(rng, 640, 360), 250)]
    return {
        "a JPEG of 1600 x 1200": ("image", jpeg(photograph)),
        "10 s of sound, 16 kHz": ("audio", wav(tone(rng, 10))),
        "10 s of video, 640 x 360, 25/s": ("video", avi(frames, 25)),
        "10,000 points": ("point", npy(cloud(rng, 10_000))),
    }


def main() -> None:
    torch.set_num_threads(1)
    for name, (modality, data) in samples().items():
        preprocess(modality, data)
        times = []
        for _ in range(REPEATS):
            started = time.process_time()
            preprocess(modality, data)
            times.append(time.process_time() - started)
        print(f"{modality:6} {name:32} {statistics.median(times):.4f} s")


if __name__ == "__main__":
    main()
