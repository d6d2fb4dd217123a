"""Kill an evaluation five times at random moments, resume it each time, and compare the final table
with that of an uninterrupted run.

A run is killed at a random time after it has received a random number of answers. These numbers
are limited, so that the evaluation does not end before the fifth kill.

    python -m tests.serving.interrupted_evaluation URL --data build/demo/data/evaluation.jsonl
        --tasks "demo picture,demo existence" --out build/interrupted

A proxy between the evaluation and the server records every request. Fails if the evaluation
sends a question again after it stored the answer, or if the two tables differ.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from model_ext.eval.data import load_named
from model_ext.eval.results import ANSWERS_FILE, read_results
from server.cli.eval.parts import request_body

KILLS = 5
POLL_S = 0.01
# Maximum time between the last counted answer and the kill, as a share of the uninterrupted run.
MAX_DELAY = 0.05


class QuietServer(ThreadingHTTPServer):
    """Prints no error when a client disconnects, as the evaluation does when it is killed."""

    def handle_error(self, *arguments: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*arguments)


class Proxy:
    """A proxy that forwards requests to `target` and records the hash of each body."""

    def __init__(self, target: str) -> None:
        self.bodies: list[str] = []
        self.answered = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.forward(None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.bodies.append(hashlib.sha256(body).hexdigest())
                self.forward(body)

            def forward(self, body: bytes | None) -> None:
                headers = {"Content-Type": "application/json"}
                http = urllib.request.Request(f"{target}{self.path}", body, headers)
                with urllib.request.urlopen(http, timeout=600) as response:
                    data = response.read()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                outer.answered += body is not None

            def log_message(self, *_: object) -> None:
                pass

        self.http = QuietServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def wait_for(answers: int, proxy: Proxy, process: subprocess.Popen[bytes]) -> None:
    """Wait until the run has received this number of answers, or ends."""
    while proxy.answered < answers and process.poll() is None:
        time.sleep(POLL_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    proxy = Proxy(options.url)
    tasks, questions = load_named(options.data, options.tasks)
    hashes = {}
    model = json.load(urllib.request.urlopen(f"{options.url}/v1/models"))["data"][0]["id"]
    for task in tasks:
        for item in questions[task.name]:
            body = request_body(item, task, model, "greedy", text_only=False)
            digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
            hashes[task.name, item.id] = digest
    assert len(set(hashes.values())) == len(hashes), "two questions have equal requests"
    command = [sys.executable, "-m", "server.cli.main", "eval", proxy.url]
    command += ["--data", str(options.data), "--tasks", options.tasks, "--decoding", "greedy"]
    start = time.monotonic()
    subprocess.run([*command, "--out", str(options.out / "whole")], check=True, capture_output=True)
    seconds = time.monotonic() - start
    print(f"without interruption: {len(proxy.bodies)} requests in {seconds:.1f} s")
    generator = random.Random(options.seed)
    out = options.out / "killed"
    for number in range(KILLS + 1):
        stored = set(read_results(out)[1]) if (out / ANSWERS_FILE).exists() else set()
        proxy.bodies.clear()
        proxy.answered = 0
        process = subprocess.Popen(
            [*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if number < KILLS:
            left = len(hashes) - len(stored)
            wait_for(generator.randint(0, left // (KILLS + 1 - number)), proxy, process)
            time.sleep(generator.uniform(0, MAX_DELAY * seconds))
            process.kill()
        status = process.wait()
        sent = list(proxy.bodies)
        repeated = {hashes[key] for key in stored} & set(sent)
        print(
            f"run {number}: {len(stored)} stored before, {len(sent)} sent, status {status}, "
            f"{len(repeated)} repeated"
        )
        assert not repeated
        assert (status == 0) == (number == KILLS), "a run ended before it was killed"
        time.sleep(1)  # wait until the killed process's requests have ended
    tables = [(options.out / name / "tables.md").read_text() for name in ("whole", "killed")]
    assert tables[0] == tables[1], "the tables differ"
    print("the tables are equal")


if __name__ == "__main__":
    main()
