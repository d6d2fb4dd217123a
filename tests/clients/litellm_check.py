"""Run a batch of requests with OpenAI's client, through a LiteLLM proxy (litellm.yaml).

    python -m tests.clients.litellm_check LITELLM URL

LITELLM: the path of the program `litellm`. URL: the address, with /v1, of a server with the model
name imagebind. Fails unless the output has one line per request.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openai

KEY = "sk-proxy"
COUNT = 20
PROVIDER = {"custom_llm_provider": "hosted_vllm"}


def main() -> None:
    program, url = sys.argv[1:]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    variables = {"BINDSERVE_URL": url, "BINDSERVE_KEY": os.environ.get("OPENAI_API_KEY", "-")}
    variables |= {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    config = Path(__file__).with_name("litellm.yaml")
    command = [program, f"--config={config}", "--host=127.0.0.1", f"--port={port}"]
    proxy = subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=sys.stderr
    )
    try:
        wait_until_ready(proxy, f"http://127.0.0.1:{port}/health/liveliness")
        check(openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, max_retries=0))
    finally:
        proxy.terminate()
        proxy.wait()


def wait_until_ready(proxy: "subprocess.Popen[bytes]", url: str) -> None:
    while proxy.poll() is None:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    sys.exit("the proxy ended")


def check(client: openai.OpenAI) -> None:
    dimensions = len(client.embeddings.create(model="imagebind", input="a dog").data[0].embedding)
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "imagebind", "input": f"dog {number}"},
        }
        for number in range(COUNT)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch", extra_body=PROVIDER)
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/embeddings",
        completion_window="24h",
        extra_body=PROVIDER,
    )
    while batch.status in ("validating", "in_progress", "finalizing"):
        time.sleep(0.3)
        batch = client.batches.retrieve(batch.id, extra_query=PROVIDER)
    assert batch.output_file_id, batch
    text = client.files.content(batch.output_file_id, extra_query=PROVIDER).text
    ids = sorted(int(json.loads(line)["custom_id"]) for line in text.splitlines())
    assert ids == list(range(COUNT))
    print(
        f"LiteLLM: embeddings of {dimensions} numbers; a batch of {COUNT} requests: {batch.status}"
    )


if __name__ == "__main__":
    main()
