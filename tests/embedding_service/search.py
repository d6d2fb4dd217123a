"""Find 20 planted sounds in an hour of other speech and noise, by a text and by a picture.

    python -m tests.embedding_service.search MODEL [--seconds 3600]

MODEL: a folder with the demonstration model's encoders alone. Runs the commands of the section
"Find a sound in a recording" of docs/embeddings.md. A sound counts as found if the first result
starts at most one window before or after it. Fails unless all sounds are found by both queries.
"""

import argparse
import base64
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.embedding_service.recording import Plant, make_recording
from tests.serving.launch import FIXTURES, Server, serve_encoders

WINDOW_S = 2
PICTURES = FIXTURES / "evaluation"
KINDS = ("text", "picture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    recording = make_recording(options.seconds, options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recordings").mkdir()
        (folder / "recordings" / "hour.wav").write_bytes(recording.wav())
        build_index(options.model, folder)
        index = f"--cache={folder / 'index'}"
        with serve_encoders(options.model, folder / "log", index, "--decode-workers=1") as server:
            rows = [
                (plant, kind, *rank(server, plant, query))
                for plant in recording.plants
                for kind, query in queries(plant)
            ]
    for plant, kind, place, result in rows:
        if place != 1:
            print(f"missed: {plant.concept} at {plant.start:.0f} s by {kind}: {result}")
    hits = {kind: sum(row[1] == kind and row[2] == 1 for row in rows) for kind in KINDS}
    for kind, count in hits.items():
        print(f"by {kind}: {count} of {len(recording.plants)} sounds found")
    sys.exit(any(count < len(recording.plants) for count in hits.values()))


def build_index(model: Path, folder: Path) -> None:
    def bindserve(*arguments: object) -> None:
        command = [sys.executable, "-m", "server.cli.main", *map(str, arguments)]
        subprocess.run(command, check=True)

    windows, index = folder / "windows.npy", folder / "index"
    bindserve("embed", model, folder / "recordings", "--windows", f"{WINDOW_S}:1", "--out", windows)
    captions = windows.with_suffix(".jsonl")
    bindserve(
        *("cache", "build", windows, "--captions", captions, "--model", model, "--out", index)
    )


def queries(plant: Plant) -> Iterator[tuple[str, dict[str, Any] | str]]:
    article = "an" if plant.concept[0] in "aeiou" else "a"
    yield "text", f"{article} {plant.concept}"
    data = base64.b64encode((PICTURES / f"{plant.concept}.png").read_bytes()).decode()
    yield "picture", {"type": "image_url", "image_url": {"url": f"data:;base64,{data}"}}


def rank(server: Server, plant: Plant, query: dict[str, Any] | str) -> tuple[int, str]:
    """Return the place of the first result that is at the sound, or 0, and the first result."""
    response = server.post("/v1/search", {"input": [query], "top_k": 10})
    assert response.status_code == 200, response.text
    results = response.json()["data"]
    places = [
        number
        for number, result in enumerate(results, 1)
        if plant.start - WINDOW_S <= result["start"] <= plant.end
    ]
    first = (
        f"first result at {results[0]['start']:.0f} s, similarity {results[0]['similarity']:.2f}"
    )
    return (places or [0])[0], f"{first}; the sound is result {(places or ['> 10'])[0]}"


if __name__ == "__main__":
    main()
