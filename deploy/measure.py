"""Measure the constants of deploy/plan.py on this machine: CPU seconds to decode an attachment, to
answer a request, and to send one event of its stream.

    python -m deploy.measure

Prints medians of repeated measurements, with the released model's input sizes. The measurements are
CPU times of one thread, which depend little on other programs. As in `bindserve bench server`, the
requests are answered by the whole application with a mock engine.
"""

import asyncio
import statistics
import time

import numpy as np
import torch
from PIL import Image

from deploy.loadtest.media import avi, cloud, jpeg, npy, picture, tone, wav, zoom
from model_ext.imagebind.preprocess.registry import preprocess
from server.bench.load import ServerArm, closed_loop
from server.bench.run import start_arm
from server.cli.demo import default_folder

REPEATS = 7
REQUESTS, CLIENTS = 400, 32
SHORT, LONG = 1, 65  # lengths of an answer in tokens; a stream has one event per token


def samples() -> dict[str, tuple[str, bytes]]:
    """Return typical attachments: a dict from names to (modality, bytes)."""
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


def decode_s(modality: str, data: bytes) -> float:
    """Return the CPU seconds to decode one file."""
    started = time.process_time()
    preprocess(modality, data)
    return time.process_time() - started


def request_s(server: ServerArm, model: str, tokens: int) -> float:
    """Return the CPU seconds of the server's process per request."""
    before = server.cpu_s()
    asyncio.run(closed_loop(server, model, REQUESTS, CLIENTS, tokens))
    return (server.cpu_s() - before) / REQUESTS


def main() -> None:
    torch.set_num_threads(1)
    for name, (modality, data) in samples().items():
        decode_s(modality, data)  # a warm-up, which is not measured
        median = statistics.median(decode_s(modality, data) for _ in range(REPEATS))
        print(f"{modality:8} {name:32} {median:.4f} s")
    model = default_folder()
    with start_arm("bindserve", model) as server:
        request_s(server, model.name, LONG)  # a warm-up, which is not measured
        pairs = [
            (request_s(server, model.name, SHORT), request_s(server, model.name, LONG))
            for _ in range(REPEATS)
        ]
    event_s = statistics.median((long - short) / (LONG - SHORT) for short, long in pairs)
    whole_s = statistics.median(short for short, _ in pairs) - SHORT * event_s
    print(f"request  without its events: {1 / whole_s:,.0f} per CPU second")
    print(f"event    of a stream: {1 / event_s:,.0f} per CPU second")


if __name__ == "__main__":
    main()
