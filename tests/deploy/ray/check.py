"""Compare Ray Serve with a server without Ray, then kill an encoder replica under load.

    bindserve demo --no-ask &
    python -m tests.deploy.ray.check --plain http://127.0.0.1:8000 [--seconds 30]

Starts Ray on this machine with two encoder replicas and one server replica, on the demo model and
port 8191. Prints how many answers of the two servers are equal, and how many requests failed while
a replica was killed.
"""

import argparse
import base64
import os
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[3]
PORT = 8191
# Ray's timeouts are long, for slow machines. Replicas keep this process's priority (nice).
os.environ |= {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
}

import ray  # noqa: E402
from ray import serve  # noqa: E402

from deploy.loadtest import scenarios  # noqa: E402
from deploy.loadtest.media import Media  # noqa: E402
from deploy.loadtest.scenarios import SCENARIOS, RequestFactory  # noqa: E402
from deploy.ray.app import Arguments, build  # noqa: E402
from server.cli.demo import default_folder  # noqa: E402
from tests.deploy.offer import offer  # noqa: E402


def start() -> str:
    ray.init(num_cpus=8, include_dashboard=False, object_store_memory=200 << 20)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    arguments = Arguments(
        model=str(default_folder()),
        settings={"served_model_name": "demo"},
        # The model allows 8,192 tokens, but 256 MiB of KV cache have no space for so many.
        vllm_args=["--enforce-eager", "--max-model-len=1024", "--kv-cache-memory-bytes=268435456"],
        servers=(1, 1),
        encoders=(2, 2),
    )
    serve.run(build(arguments), name="bindserve", route_prefix="/")
    return f"http://127.0.0.1:{PORT}"


def compare(url: str, plain: str) -> None:
    """Compare greedy answers, log-probabilities, embeddings and errors of both servers."""
    factory = RequestFactory(Media.make(0), Random(0), "demo")
    equal = total = 0
    for name in ("text", "image", "audio", "video", "point_cloud", "mixed", "conversation"):
        for _ in range(3):
            body = SCENARIOS[name](factory).body.replace(b'"stream": true', b'"logprobs": true')
            body = body[:-1] + b', "temperature": 0, "imagebind": {"explain": true}}'
            one, other = (ask(server, body) for server in (url, plain))
            total += 1
            equal += one == other
            if one != other:
                print(f"{name} differs:\n  {one}\n  {other}")
    for name in ("damaged", "disguised", "zero_weights"):
        body = getattr(scenarios, name)(factory).body
        answers = [httpx.post(f"{u}/v1/chat/completions", content=body) for u in (url, plain)]
        total += 1
        equal += (answers[0].status_code, answers[0].json()) == (
            answers[1].status_code,
            answers[1].json(),
        )
    picture = base64.b64encode(factory.media.files["image"][0]).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{picture}"}}
    embeddings = [
        httpx.post(f"{u}/v1/embeddings", json={"model": "demo", "input": [part]}, timeout=60).json()
        for u in (url, plain)
    ]
    total += 1
    equal += embeddings[0]["data"] == embeddings[1]["data"]
    print(f"compared with the server without Ray: {equal} of {total} answers equal", flush=True)


def ask(url: str, body: bytes) -> tuple[Any, Any]:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{url}/v1/chat/completions", content=body, headers=headers, timeout=120)
    document = answer.raise_for_status().json()
    (choice,) = document["choices"]
    tokens = [(t["token"], round(t["logprob"], 4)) for t in choice["logprobs"]["content"]]
    return choice["message"]["content"], tokens


def encoders() -> list[int]:
    """Return the process ids of the encoder replicas."""
    title = "ray::ServeReplica:bindserve:EncoderReplica"
    running = psutil.process_iter(["cmdline"])
    return sorted(p.pid for p in running if " ".join(p.info["cmdline"] or []).startswith(title))


def kill_one(url: str, seconds: float, rate: float) -> None:
    """Kill one encoder replica under load, as an operating system without free memory does."""
    before = encoders()
    print("encoder replicas", before, flush=True)

    def kill() -> None:
        time.sleep(seconds / 2)
        os.kill(before[0], 9)
        print("killed", before[0], flush=True)

    threading.Thread(target=kill, daemon=True).start()
    outcomes = offer(url, rate, seconds, model="demo")
    failed = [outcome for outcome in outcomes if not outcome.right]
    print(
        f"{len(outcomes)} requests while a replica was killed, {len(failed)} failed: {failed[:5]}"
    )
    deadline = time.monotonic() + 120
    while len(encoders()) < 2 and time.monotonic() < deadline:
        time.sleep(1)
    print("encoder replicas", encoders(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", required=True, help="URL of a server without Ray (demo model)")
    parser.add_argument(
        "--seconds", type=float, default=30, help="length of the load (default: 30)"
    )
    parser.add_argument("--rate", type=float, default=3, help="requests a second (default: 3)")
    parser.add_argument(
        "--stay", type=float, default=0, help="seconds to keep serving afterwards (default: 0)"
    )
    options = parser.parse_args()
    url = start()
    try:
        compare(url, options.plain)
        kill_one(url, options.seconds, options.rate)
        time.sleep(options.stay)
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
