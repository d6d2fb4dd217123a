"""Embed an hour of sound in windows over HTTP, and measure the memory of all processes.

    python -m tests.embedding_service.hour MODEL [--seconds 3600]

MODEL: a folder of encoders alone. The windows have 2 s and start every second. The memory before is
that of a server that has embedded one minute of another sound. Prints the growth of the resident
memory (Rss), which counts a page again for each process that shares it, and of the proportional
memory (Pss), which counts each page once. Fails if Rss grows by 50 MB or more, or if a window
differs from the embedding of a file that was cut at its place.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.embedding_service.memory import differences, memory_of_all, watched
from tests.embedding_service.recording import Recording, make_recording
from tests.serving.launch import Server, serve_encoders

WINDOWS = {"seconds": 2, "stride": 1}
KINDS = ("Rss", "Pss")
MAX_GROWTH = 50e6  # bytes
COMPARED = 12  # number of windows that are compared with files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=int, default=3600)
    options = parser.parse_args()
    recording = make_recording(options.seconds)
    warm_up = make_recording(60, seed=1, plants=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_encoders(options.model, Path(folder, "log"), "--decode-workers=1") as server,
    ):
        pid = server.process.pid
        started = memory_of_all(pid)
        embed(server, warm_up, Path(folder, "warm-up.json"))
        before = {kind: memory_of_all(pid, kind) for kind in KINDS}
        print(f"memory after the start {total(started)}, after a minute {total(before['Rss'])}")
        began = time.monotonic()
        with watched(pid, KINDS) as peaks:
            items = embed(server, recording, Path(folder, "hour.json"))
        seconds = time.monotonic() - began
        after = {kind: memory_of_all(pid, kind) for kind in KINDS}
        print(f"{len(items)} embeddings in {seconds:.0f} s")
        for kind in KINDS:
            print(f"{kind} at most {change(peaks[kind].parts, before[kind])}")
            print(f"{kind} after the response {change(after[kind], before[kind])}", flush=True)
        check_windows(server, recording, items)
        assert len(items) == math.ceil(options.seconds / WINDOWS["stride"])
    sys.exit(peaks["Rss"].total - sum(before["Rss"].values()) >= MAX_GROWTH)


def change(after: dict[str, int], before: dict[str, int]) -> str:
    growth = sum(after.values()) - sum(before.values())
    return f"{growth / 1e6:+.1f} MB: {differences(after, before)}"


def total(parts: dict[str, int]) -> str:
    return f"{sum(parts.values()) / 1e6:.0f} MB"


def embed(server: Server, recording: Recording, out: Path) -> list[dict[str, Any]]:
    """Upload the recording, embed its windows, and return the items of the response. Reads the
    response in pieces, as a client with little memory does.
    """
    form = {"files": {"file": ("a.wav", recording.wav())}, "data": {"purpose": "user_data"}}
    file_id = httpx.post(f"{server.url}/v1/files", timeout=60, **form).json()["id"]  # type: ignore[arg-type]
    part = {"type": "file", "file": {"file_id": file_id}}
    body = {"input": [part], "imagebind": {"windows": WINDOWS}}
    url = f"{server.url}/v1/embeddings"
    with (
        httpx.stream("POST", url, json=body, timeout=3600) as response,
        out.open("wb") as file,
    ):
        for piece in response.iter_bytes():
            file.write(piece)
    assert response.status_code == 200, out.read_bytes()[:500]
    items: list[dict[str, Any]] = json.loads(out.read_bytes())["data"]
    return items


def check_windows(server: Server, recording: Recording, items: list[dict[str, Any]]) -> None:
    """Compare some windows with the embeddings of files that were cut at the same places."""
    last = len(items) - 1
    numbers = {0, 1, last - 1, last, *random.Random(0).sample(range(last), COMPARED - 4)}
    difference = 0.0
    for number in sorted(numbers):
        times = items[number]["imagebind"]
        cut = recording.cut(times["start"], times["end"])
        form = {"files": {"file": ("a.wav", cut)}, "data": {"purpose": "user_data"}}
        file_id = httpx.post(f"{server.url}/v1/files", **form).json()["id"]  # type: ignore[arg-type]
        part = {"type": "file", "file": {"file_id": file_id}}
        response = server.post("/v1/embeddings", {"input": [part]})
        expected = response.json()["data"][0]["embedding"]
        pair = np.array([items[number]["embedding"], expected])
        difference = max(difference, float(np.abs(pair[0] - pair[1]).max()))
    print(f"windows {sorted(numbers)}: largest difference {difference:.1e}")
    assert difference < 1e-5


if __name__ == "__main__":
    main()
