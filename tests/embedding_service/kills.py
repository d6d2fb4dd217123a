"""Embed 20,000 files with `bindserve embed`, and kill the command five times with `kill -9`.

    python -m tests.embedding_service.kills MODEL [--files 20000]

MODEL: a folder of encoders alone. One file in a hundred is broken. The command is killed while it
loads the encoders, three times while it embeds files, and while it writes the output file. Fails
unless the last run ends with exit code 0, the output has each good file once and in order, and the
embeddings of the sampled files equal those of each file alone.
"""

import argparse
import io
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from tests.embedding_service.memory import memory_of_all
from tests.embedding_service.pictures import picture
from tests.serving.launch import descendants

BROKEN = 100  # one file in so many
SOUNDS = 25  # one file in so many is a sound
SAMPLED = 60  # number of files that are also embedded alone
PARTS = (0.0, 0.2, 0.45, 0.7, 1.0)  # shares of the files after which the command is killed
START_S = 3  # seconds after which the command is killed while it loads
WAIT_S = 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--files", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        media, out = Path(name, "media"), Path(name, "out.jsonl")
        broken = write_files(media, options.files)
        command = [sys.executable, "-m", "server.cli.main", "embed", str(options.model)]
        command += [str(media), f"--out={out}"]
        partial = out.with_name(f".{out.name}.partial")
        for part in PARTS:
            kill(command, stop_at(part, partial, options.files))
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        print(done.stdout.strip())
        assert done.returncode == 0, done.stderr
        check_output(out, media, broken)
        check_list(done.stdout, out, broken)
        assert not partial.exists()
        check_embeddings(options.model, out)


def write_files(folder: Path, count: int) -> set[str]:
    """Write different pictures and sounds. Returns the names of the broken files."""
    generator, broken = np.random.default_rng(0), set()
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        if number % SOUNDS == 1:
            path = path.with_suffix(".wav")
            samples = generator.uniform(-0.5, 0.5, 8000)
            soundfile.write(file, samples, 16_000, format="WAV")
        else:
            path = path.with_suffix(".jpg")
            file.write(picture(generator, side=96))
        data = file.getvalue()
        if number % BROKEN == 7:
            broken.add(path.name)
            data = [b"", b"no picture", data[: len(data) // 3], data[:20]][number // BROKEN % 4]
        path.write_bytes(data)
    return broken


def stop_at(part: float, partial: Path, count: int) -> Callable[[float], bool]:
    """Return a function that says whether to kill the command, from its seconds of run time."""
    pause = random.Random(part).uniform(0, 1)
    due: list[float] = []

    def now(seconds: float) -> bool:
        if part == 0:
            return seconds > START_S
        if part == 1:
            return (partial / "output.jsonl").exists()
        if not due and consumed(partial) >= part * count:
            due.append(seconds + pause)  # between two shards, or while one is written
        return bool(due) and seconds >= due[0]

    return now


def consumed(partial: Path) -> int:
    try:
        return int(json.loads((partial / "progress.json").read_bytes())["consumed"])
    except (OSError, ValueError):
        return 0


def kill(command: list[str], due: Callable[[float], bool]) -> None:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        began = time.monotonic()
        while not due(time.monotonic() - began):
            if process.poll() is not None:
                output.seek(0)
                sys.exit(f"the command ended by itself:\n{output.read().decode()[-2000:]}")
            assert time.monotonic() - began < WAIT_S
            time.sleep(0.01)
        seconds, parts = time.monotonic() - began, memory_of_all(process.pid)
        children = descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for pid in children:
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.01)
    print(f"killed after {seconds:.1f} s, resident memory {sum(parts.values()) / 1e6:.0f} MB")


def check_output(out: Path, media: Path, broken: set[str]) -> None:
    """The output has each good file once, in order, and no other file."""
    files = [json.loads(line)["file"] for line in out.read_text().splitlines()]
    good = [str(path) for path in sorted(media.rglob("*.*")) if path.name not in broken]
    skipped = out.with_name(f"{out.name}.skipped.txt").read_text().splitlines()
    for line in skipped:
        if not any(name in line for name in broken):
            print(f"a good file was skipped: {line}")
    assert len(files) == len(set(files)), "a row is duplicated"
    assert files == good
    print(f"{len(files)} rows, each good file once")


def check_list(output: str, out: Path, broken: set[str]) -> None:
    """The list beside the output names each broken file once."""
    lines = out.with_name(f"{out.name}.skipped.txt").read_text().splitlines()
    names = [Path(line.split("\t")[1].strip("'")).name for line in lines]
    assert names == sorted(broken)
    assert f"{len(broken)} files skipped" in output
    reasons = Counter(line.split("\t")[2] for line in lines)
    print(f"{len(names)} broken files listed: {dict(reasons)}")


def check_embeddings(model: Path, out: Path) -> None:
    """Compare sampled embeddings with those of the command for single files."""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    sampled = random.Random(0).sample(rows, min(SAMPLED, len(rows)))
    command = [sys.executable, "-m", "server.cli.main", "embed", str(model)]
    done = subprocess.run(
        [*command, *(row["file"] for row in sampled)], check=True, capture_output=True
    )
    expected = [item["embedding"] for item in json.loads(done.stdout)]
    difference = np.abs(np.array([row["embedding"] for row in sampled]) - expected).max()
    print(f"{len(sampled)} files embedded alone: largest difference {difference:.1e}")
    assert difference < 1e-5


if __name__ == "__main__":
    main()
