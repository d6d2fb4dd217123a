"""`bindserve demo`: serve the demonstration model, send it a few questions, and keep serving.

The command sends the questions over HTTP, like any client, and prints the answers while they
arrive.
"""

import hashlib
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

from model_ext.demo.questions import (
    CLIP,
    CLOUD,
    LINE,
    MEDIA,
    PICTURE,
    WHAT,
    WORD,
    Question,
    request,
)
from server.cli.serve import load_settings, run
from server.logs import fail
from server.process.cache_folder import cache_folder
from server.settings import DECODER

# These files identify the version of the model. If any part changes, one of them changes, because
# the manifest contains the hash of the encoders.
PART_NAMES = (
    *("weights/adapter.safetensors", "cache/manifest.json", "../chat_template.jinja"),
    f"{DECODER}/model.safetensors",
)
PARTS = [part for name in PART_NAMES if (part := MEDIA.parent / name).is_file()]
DETECTOR = MEDIA.parent / "detector"
CACHES = cache_folder()
FIRST: tuple[Question, ...] = (
    *(((file,), WHAT) for file in (PICTURE, WORD, CLOUD, CLIP)),
    ((PICTURE, WORD), LINE),
    ((), "Hello! Who are you?"),
)
START_TIMEOUT_S = 600
# Without compilation, the first answers come sooner. The log level hides access log lines, which
# would be printed between the answers.
QUICK = ["--enforce-eager", "--uvicorn-log-level=warning"]
POLL_S = 0.5


def demo(
    ctx: typer.Context,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on. Default: 127.0.0.1 (this machine only)."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 8000.")] = None,
    no_auth: Annotated[
        bool | None,
        typer.Option(
            "--no-auth",
            help="Require no API keys, even if other machines can reach --host.",
        ),
    ] = None,
    ask: Annotated[
        bool,
        typer.Option(
            help="At the start, ask questions about a picture, a sound, a point cloud and a video.",
        ),
    ] = True,
    folder: Annotated[
        Path | None,
        typer.Option(
            envvar="BINDSERVE_DEMO_FOLDER",
            help="Model folder, written at the first start. Default: in ~/.cache/bindserve.",
        ),
    ] = None,
) -> None:
    """Serve the demonstration model and ask it a few questions.

    Flags of `vllm serve` follow after `--`.
    """
    model = folder or default_folder()
    if not (model / "config.json").is_file():
        typer.echo(f"Writing the demonstration model to {model} (only once)")
        from model_ext.demo.base import BaseError
        from model_ext.demo.prepare import prepare

        try:
            prepare(model)
        except BaseError as error:
            fail(str(error), code=1)
    settings = load_settings(
        model=model,
        host=host,
        port=port,
        served_model_name="demo",
        no_auth=no_auth,
        page=True,
        page_examples=MEDIA,
        # Draw pictures if the model has a decoder and the environment names no other decoder.
        decoder=None if "BINDSERVE_DECODER" in os.environ else decoder_of(model),
        # Ground answers with the demonstration's detector, unless the environment names another.
        detector=DETECTOR if DETECTOR.is_dir() and "BINDSERVE_DETECTOR" not in os.environ else None,
        vllm_args=ctx.args or QUICK,
    )
    # Hides log lines, so that the printed answers are readable.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    if ask:
        url = f"http://{reachable(settings.host)}:{settings.port}"
        threading.Thread(target=ask_first, args=(url,), daemon=True).start()
    run(settings)


demo.context_settings = {"allow_extra_args": True}  # type: ignore[attr-defined]


def reachable(host: str) -> str:
    """Return the address at which this machine can reach a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def decoder_of(model: Path) -> str | None:
    """Return the value of the setting `decoder` for a model folder."""
    return "model" if (model / DECODER).is_dir() else None


def default_folder() -> Path:
    """Return the model's folder in the user's cache folder. The name contains the version of the
    model.
    """
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in PARTS))
    return CACHES / f"demo-{digest.hexdigest()[:12]}"


def ask_first(url: str) -> None:
    if not wait_until_ready(url):
        return
    typer.echo(f"\n{url} serves OpenAI's API. First questions, about files of {MEDIA}:\n")
    for files, text in FIRST:
        typer.echo(f"  {' + '.join(files) or 'nothing attached':<24} {text:<34} ", nl=False)
        try:
            for piece in stream(url, request(files, text) | {"stream": True}):
                typer.echo(piece, nl=False)
            typer.echo()
        except (urllib.error.URLError, ConnectionError, ValueError) as error:
            typer.echo(f"\nthe question failed: {error}", err=True)
    typer.echo(f"\nWeb page: {url}/  API: {url}/v1, model name `demo`. Ctrl-C stops the server.\n")


def wait_until_ready(url: str) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return True
        except OSError:  # the server does not listen yet, or responds with 503 until it is ready
            time.sleep(POLL_S)
    return False


def stream(url: str, body: dict[str, Any]) -> Iterator[str]:
    """Send a request, and yield the pieces of the answer as they arrive."""
    http = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(http, timeout=START_TIMEOUT_S) as response:
        for line in response:
            data = line.removeprefix(b"data: ").strip()
            if line.startswith(b"data: ") and data != b"[DONE]":
                for choice in json.loads(data).get("choices", []):
                    yield choice["delta"].get("content") or ""
