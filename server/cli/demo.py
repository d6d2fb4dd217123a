"""`bindserve demo`: serve the small model that comes along, and ask it a first question.

The question goes over HTTP, as any client's would; its answer is printed as it streams. Then the
server goes on until it is stopped.
"""

import base64
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from server.cli.serve import fail, load_settings, run

FOLDER = Path(__file__).parents[2] / "model_ext" / "demo"
QUESTION = "What do you see and hear?"
START_TIMEOUT_S = 600
# Compiling takes longer than the first answers, and the answer should not drown in requests.
QUICK = ["--enforce-eager", "--uvicorn-log-level=warning"]
POLL_S = 0.5


def demo(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8000.")] = None,
    no_auth: Annotated[
        bool | None,
        typer.Option("--no-auth", help="No API keys, even if --host lets other machines in."),
    ] = None,
    ask: Annotated[
        bool, typer.Option(help="Ask a first question about a picture and a sound.")
    ] = True,
) -> None:
    """Serve the small model that comes along, and ask it.

    Flags of `vllm serve` go after `--`.
    """
    model = FOLDER / "model"
    if not (model / "config.json").is_file():
        fail(f"{model}: the demonstration model is not part of this installation", code=1)
    settings = load_settings(
        model=model,
        host=host,
        port=port,
        served_model_name="demo",
        no_auth=no_auth,
        vllm_args=ctx.args or QUICK,
    )
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")  # the answer should be seen
    if ask:
        url = f"http://{reachable(settings.host)}:{settings.port}"
        threading.Thread(target=ask_first, args=(url,), daemon=True).start()
    run(settings)


demo.context_settings = {"allow_extra_args": True}  # type: ignore[attr-defined]


def reachable(host: str) -> str:
    """Where this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def ask_first(url: str) -> None:
    if not wait_until_ready(url):
        return
    picture, sound = find("*.jpg"), find("*.wav")
    typer.echo(
        f"\n{url} answers OpenAI's API. A first question, about {picture.name} and {sound.name}:\n"
        f"\n    {QUESTION}\n"
    )
    try:
        for text in stream(url, question(picture, sound)):
            typer.echo(text, nl=False)
    except (urllib.error.URLError, ConnectionError, ValueError) as error:
        typer.echo(f"\nthe question failed: {error}", err=True)
    typer.echo(f"\n\nThe server goes on: {url}/v1, model name `demo`. Ctrl-C stops it.\n")


def find(pattern: str) -> Path:
    return min((FOLDER / "media").glob(pattern))


def wait_until_ready(url: str) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return True
        except OSError:  # not listening yet, or 503
            time.sleep(POLL_S)
    return False


def question(picture: Path, sound: Path) -> dict[str, Any]:
    image, audio = (base64.b64encode(path.read_bytes()).decode() for path in (picture, sound))
    return {
        "model": "demo",
        "stream": True,
        "temperature": 0,
        "max_tokens": 64,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{image}"}},
                    {"type": "input_audio", "input_audio": {"data": audio, "format": "wav"}},
                    {"type": "text", "text": QUESTION},
                ],
            }
        ],
    }


def stream(url: str, request: dict[str, Any]) -> Iterator[str]:
    """The pieces of the answer, as they come."""
    http = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(request).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(http, timeout=START_TIMEOUT_S) as response:
        for line in response:
            data = line.removeprefix(b"data: ").strip()
            if line.startswith(b"data: ") and data != b"[DONE]":
                for choice in json.loads(data).get("choices", []):
                    yield choice["delta"].get("content") or ""
