"""Compare the speed of the readers with that of another version of the source.

    python -m tests.model_ext.imagebind.preprocess.decode_speed OTHER

OTHER is a folder with the package model_ext, for example of an earlier commit. The two versions run
in two processes, and decode the same file in turn (interleaved pairs). Prints for each file the
median of the ratio: CPU time of the other version, divided by that of this version. Above 1, this
version is faster. The interval contains the median with a probability of 95%.
"""

import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
FILES = {
    "img_a.jpg": "image",
    "audio_a.wav": "audio",
    "video_a.mp4": "video",
    "points_a.npy": "point",
}
PAIRS, SAMPLE_S = 41, 0.1
CHILD = """
import sys, time
from pathlib import Path
import torch
from model_ext.imagebind.preprocess.registry import preprocess
torch.set_num_threads(1)
for line in sys.stdin:
    path, modality, repeats = line.split()
    data = Path(path).read_bytes()
    started = time.process_time()
    for _ in range(int(repeats)):
        preprocess(modality, data)
    print(time.process_time() - started, flush=True)
"""


class Version:
    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            cwd=root,
        )

    def seconds(self, path: Path, modality: str, repeats: int) -> float:
        """Return the CPU seconds to decode the file `repeats` times."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path} {modality} {repeats}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return the 95% interval of the median, by resampling."""
    dice = random.Random(0)
    medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[-51]


def main() -> None:
    this, other = Version(ROOT), Version(Path(sys.argv[1]))
    for name, modality in FILES.items():
        path = ROOT / "tests" / "fixtures" / "media" / name
        for version in (this, other):
            version.seconds(path, modality, 2)  # not measured, to warm up
        repeats = max(1, round(SAMPLE_S / this.seconds(path, modality, 1)))
        ratios = []
        for pair in range(PAIRS):
            order = (this, other) if pair % 2 else (other, this)
            times = {version: version.seconds(path, modality, repeats) for version in order}
            ratios.append(times[other] / times[this])
        low, high = interval(ratios)
        print(f"{name}: {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}]", flush=True)
    this.close()
    other.close()


if __name__ == "__main__":
    main()
