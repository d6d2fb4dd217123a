"""The text expert: it reads the text in pictures with RapidOCR (extra `ocr`).

RapidOCR's models are in its package. A task's array `pictures` is (F, H, W, 3) uint8 RGB. Its
result has the lines of text in reading order.
Shapes: F frames, H height, W width, L lines.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidocr import RapidOCR

from model_ext.side import Json, SideData, Task, TaskError, stop_if_cancelled

MiB = 1 << 20
GPU_BYTES = 1536 * MiB  # GPU memory of onnxruntime for pictures of 2000 x 2000.
# Two boxes are on one line if their middles differ vertically by at most this share of the height.
MAX_OFFSET = 0.5


class Ocr:
    max_batch = 1

    def __init__(self, reader: RapidOCR, device: str, gpu_bytes: int) -> None:
        self.device, self.gpu_bytes = device, gpu_bytes
        self._reader = reader

    def kind(self, document: Json) -> Hashable:
        if document:
            raise TaskError("reading text has no options")
        return None

    def run(self, tasks: Sequence[Task]) -> Sequence[SideData]:
        return [self._read(task) for task in tasks]

    def _read(self, task: Task) -> SideData:
        pictures = task.data.arrays["pictures"]
        lines: list[str] = []
        for picture in pictures if pictures.ndim == 4 else ():
            stop_if_cancelled([task])
            # Several frames of a video usually show the same text, so each line is kept once.
            lines += [line for line in self.lines(picture) if line not in lines]
        return SideData({"lines": lines})

    def lines(self, picture: NDArray[np.uint8]) -> list[str]:
        """Read one RGB picture (H, W, 3)."""
        # RapidOCR expects BGR.
        result: Any = self._reader(np.ascontiguousarray(picture[:, :, ::-1]))
        if result.boxes is None or not result.txts:
            return []
        return in_reading_order(np.asarray(result.boxes, np.float32), result.txts)


def in_reading_order(boxes: NDArray[np.float32], texts: Sequence[str]) -> list[str]:
    """Join the texts of boxes (L, 4, 2) into lines, from left to right and from top to bottom."""
    middles, heights = boxes.mean(1), np.ptp(boxes[:, :, 1], axis=1)
    rows: list[list[int]] = []
    for index in np.argsort(middles[:, 1], kind="stable"):
        last = rows[-1][-1] if rows else None
        apart = None if last is None else middles[index, 1] - middles[last, 1]
        if last is None or apart > MAX_OFFSET * min(heights[index], heights[last]):
            rows.append([])
        rows[-1].append(int(index))
    return [
        " ".join(texts[index].strip() for index in sorted(row, key=lambda each: middles[each, 0]))
        for row in rows
    ]


def load(device: str = "auto", threads: int = -1) -> Ocr:
    """Load RapidOCR's models. `threads`: the number of CPU threads; -1 means one per core. The
    device `auto` means the CPU, because the extra `ocr` installs onnxruntime for CPUs.
    """
    cuda = device.startswith("cuda")
    params = {
        "Global.log_level": "error",
        "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        "EngineConfig.onnxruntime.use_cuda": cuda,
    }
    reader = RapidOCR(params=params)
    # RapidOCR loads its models when it reads the first picture.
    reader(np.full((48, 160, 3), 255, np.uint8))
    return Ocr(reader, "cuda" if cuda else "cpu", GPU_BYTES if cuda else 0)
