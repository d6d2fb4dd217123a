"""`bindserve demo`: serve the small model that comes along, and ask it first questions.

They go over HTTP, as any client's would; the answers are printed as they stream. Then the server
goes on until it is stopped.
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

# Whatever changes in the model, one of these does: the manifest has the encoders' hash, too.
PARTS = [MEDIA.parent / name for name in ("weights/adapter.safetensors", "cache/manifest.json")]
CACHES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bindserve"
FIRST: tuple[Question, ...] = (
    *(((file,), WHAT) for file in (PICTURE, WORD, CLOUD, CLIP)),
    ((PICTURE, WORD), LINE),
    ((), "Hello! Who are you?"),
)
START_TIMEOUT_S = 600
# Compiling takes longer than the first answers, and the answers should not drown in requests.
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
        bool, typer.Option(help="Ask first questions about a picture, a sound, a cloud, a clip.")
    ] = True,
    folder: Annotated[
        Path | None,
        typer.Option(
            envvar="BINDSERVE_DEMO_FOLDER",
            help="Where the model is written at the first start. Default: in ~/.cache/bindserve.",
        ),
    ] = None,
) -> None:
    """Serve the small model that comes along, and ask it.

    Flags of `vllm serve` go after `--`.
    """
    model = folder or default_folder()
    if not (model / "config.json").is_file():
        typer.echo(f"Writing the demonstration model to {model}, once")
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
        vllm_args=ctx.args or QUICK,
    )
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # the answers should be seen
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    if ask:
        url = f"http://{reachable(settings.host)}:{settings.port}"
        threading.Thread(target=ask_first, args=(url,), daemon=True).start()
    run(settings)


demo.context_settings = {"allow_extra_args": True}  # type: ignore[attr-defined]


def reachable(host: str) -> str:
    """Where this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def default_folder() -> Path:
    """One per version of the model."""
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in PARTS))
    return CACHES / f"demo-{digest.hexdigest()[:12]}"


def ask_first(url: str) -> None:
    if not wait_until_ready(url):
        return
    typer.echo(f"\n{url} answers OpenAI's API. First questions, about files of {MEDIA}:\n")
    for files, text in FIRST:
        typer.echo(f"  {' + '.join(files) or 'nothing attached':<24} {text:<34} ", nl=False)
        try:
            for piece in stream(url, request(files, text) | {"stream": True}):
                typer.echo(piece, nl=False)
            typer.echo()
        except (urllib.error.URLError, ConnectionError, ValueError) as error:
            typer.echo(f"\nthe question failed: {error}", err=True)
    typer.echo(f"\nThe server goes on: {url}/v1, model name `demo`. Ctrl-C stops it.\n")


def wait_until_ready(url: str) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return True
        except OSError:  # not listening yet, or 503
            time.sleep(POLL_S)
    return False


def stream(url: str, body: dict[str, Any]) -> Iterator[str]:
    """The pieces of the answer, as they come."""
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
