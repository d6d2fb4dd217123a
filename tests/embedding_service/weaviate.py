"""Send requests of Weaviate's form: 1,000 pictures in one call, and readiness while clients wait.

    python -m tests.embedding_service.weaviate MODEL [--pictures 1000]

MODEL: a folder of encoders alone. The main listener needs an API key, Weaviate's listener does not.
Fails unless the call returns the vectors of all pictures in order, /.well-known/ready answers
within 500 ms, before and during the call, and errors have the form {"error": "text"}.
"""

import argparse
import gc
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from tests.embedding_service.pictures import encode, pictures
from tests.serving.launch import KEY, free_port, serve_encoders

MAX_READY_S = 0.5
COMPARED = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    options = parser.parse_args()
    port = free_port()
    arguments = [f"--weaviate=127.0.0.1:{port}", "--decode-workers=1", "--", f"--api-key={KEY}"]
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_encoders(options.model, Path(folder, "log"), *arguments) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client,
    ):
        assert httpx.post(f"{server.url}/v1/embeddings", json={"input": "a"}).status_code == 401
        print(f"ready without a key, idle: {ready_ms(client.base_url, 20)}")
        check_errors(client)
        check_call(client, pictures(options.pictures, seed=0))


def check_call(client: httpx.Client, files: list[bytes]) -> None:
    # written before the polling, because json.dumps delays the polling thread
    body = json.dumps({"images": [encode(file) for file in files]}).encode()
    headers = {"Content-Type": "application/json"}
    times: list[float] = []
    gc.freeze()  # a collection of this program's objects takes half a second
    with polling(client.base_url, times):
        began = time.monotonic()
        response = client.post("/vectorize", content=body, headers=headers)
        seconds = time.monotonic() - began
    assert response.status_code == 200, response.text[:500]
    vectors = np.array(response.json()["imageVectors"])
    assert len(vectors) == len(files)
    difference = 0.0
    for number in random.Random(0).sample(range(len(files)), COMPARED):
        alone = client.post("/vectorize", json={"images": [encode(files[number])]}).json()
        difference = max(difference, np.abs(vectors[number] - alone["imageVectors"][0]).max())
    print(f"{len(files)} pictures in one call: {seconds:.1f} s, {len(response.content)} bytes")
    print(f"{COMPARED} of them alone: largest difference {difference:.1e}")
    print(f"ready during the call: {milliseconds(times)}")
    slowest = sorted(range(len(times)), key=times.__getitem__)[-3:]
    print(f"slowest requests: {[(number, round(times[number], 3)) for number in slowest]}")
    assert difference < 1e-5 * np.abs(vectors).max()
    assert max(times) < MAX_READY_S


def check_errors(client: httpx.Client) -> None:
    for path, body, status in (
        ("/vectorize", {"images": ["?"]}, 400),
        ("/vectorize", {"texts": "a"}, 400),
        ("/v1/embeddings", {"input": "a"}, 404),
        ("/vectorize", {"texts": ["a" * 70_000]}, 413),
    ):
        response = client.post(path, json=body)
        assert response.status_code == status, response.text
        assert isinstance(response.json()["error"], str)
        print(f"{status}: {response.text[:100]}")


def ready_ms(url: httpx.URL, count: int) -> str:
    with new_connections(url) as client:
        times = [ready_s(client) for _ in range(count)]
    assert max(times) < MAX_READY_S, times
    return milliseconds(times)


def new_connections(url: httpx.URL) -> httpx.Client:
    """A client that opens a connection for each request. `httpx.get` would also read the system's
    certificates for each request, which takes longer than the server's response.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=url, timeout=30, limits=limits)


def ready_s(client: httpx.Client) -> float:
    """Return the seconds of a request."""
    began = time.monotonic()
    response = client.get("/.well-known/ready")
    assert response.status_code == 204
    return time.monotonic() - began


@contextmanager
def polling(url: httpx.URL, times: list[float]) -> Iterator[None]:
    """Ask for readiness ten times a second."""
    ended = threading.Event()

    def poll() -> None:
        with new_connections(url) as client:
            while not ended.wait(0.1):
                times.append(ready_s(client))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def milliseconds(times: list[float]) -> str:
    median, largest = (1000 * value for value in (np.median(times), max(times)))
    return f"median {median:.0f} ms, at most {largest:.0f} ms ({len(times)} requests)"


if __name__ == "__main__":
    main()
