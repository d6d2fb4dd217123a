"""Embed an hour of sound in windows over HTTP, and measure the memory of all processes.

    python -m tests.embedding_service.hour MODEL [--seconds 3600]

MODEL: a folder of encoders alone. The windows have 2 s and start every second. The memory before is
that of a server that has embedded one minute of another sound. Fails if the memory grows by 50 MB
or more, or if a window differs from the embedding of a file that was cut at its place.
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
        started = memory_of_all(server.process.pid)
        embed(server, warm_up, Path(folder, "warm-up.json"))
        before = memory_of_all(server.process.pid)
        print(f"memory after the start {total(started)}, after one minute of sound {total(before)}")
        began = time.monotonic()
        with watched(server.process.pid) as peak:
            items = embed(server, recording, Path(folder, "hour.json"))
        seconds = time.monotonic() - began
        after = memory_of_all(server.process.pid)
        check_windows(server, recording, items)
        print(f"{len(items)} embeddings in {seconds:.0f} s")
        growth = peak.total - sum(before.values())
        print(f"memory at most {growth / 1e6:+.1f} MB: {differences(peak.parts, before)}")
        print(f"memory after the response: {differences(after, before)}")
        assert len(items) == math.ceil(options.seconds / WINDOWS["stride"])
    sys.exit(growth >= MAX_GROWTH)


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
