"""`bindserve serve MODEL [options] [-- flags of vllm serve]`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from server.logs import fail
from server.settings import Settings


class CachePolicy(StrEnum):
    off = "off"
    refuse = "refuse"


def serve(
    ctx: typer.Context,
    model: Annotated[Path, typer.Argument(help="A folder that `convert` or `train export` wrote.")],
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on. Default: 127.0.0.1, this machine only."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8000.")] = None,
    served_model_name: Annotated[
        str | None, typer.Option(help="Name for clients. Default: the folder's.")
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="A cache folder, the URL of `bindserve cache serve` (several, with commas: "
            "shards), or `none`. Default: the model's own."
        ),
    ] = None,
    cache_policy: Annotated[
        CachePolicy | None,
        typer.Option(
            help="When the cache cannot be asked: `off` answers without it and says so in the "
            "header x-bindserve-cache, `refuse` answers 503 with Retry-After. Default: refuse."
        ),
    ] = None,
    cache_token_file: Annotated[
        Path | None, typer.Option(help="The token of `bindserve cache serve`, on one line.")
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="API keys, one a line. With it, every path but /health, /ready needs one."
        ),
    ] = None,
    no_auth: Annotated[
        bool | None,
        typer.Option("--no-auth", help="No API keys, even if --host lets other machines in."),
    ] = None,
    allow_field: Annotated[
        list[str] | None,
        typer.Option(help="Let clients write this engine field, e.g. chat_template. Repeatable."),
    ] = None,
    allow_media_urls: Annotated[
        bool | None,
        typer.Option(
            "--allow-media-urls", help="Fetch http(s) URLs in requests, from public addresses."
        ),
    ] = None,
    request_log: Annotated[
        bool | None,
        typer.Option(
            "--request-log",
            help="Write one line of JSON for every request (status, milliseconds of each stage, "
            "tokens; no contents) on standard output, in place of the access log.",
        ),
    ] = None,
    encode_device: Annotated[
        str | None, typer.Option(help="Where the encoders run. Default: the GPU if there is one.")
    ] = None,
    decode_workers: Annotated[int | None, typer.Option(help="Processes that decode media.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file with any of the settings (server/settings.py lists them)."),
    ] = None,
) -> None:
    """Serve a model folder over HTTP, with OpenAI's API.

    Every setting may also come from the environment (BINDSERVE_PORT=9000) or from --config.
    Flags of `vllm serve` go after `--`: bindserve serve MODEL -- --max-model-len 2048
    """
    settings = load_settings(
        model=model,
        host=host,
        port=port,
        served_model_name=served_model_name,
        cache=cache,
        cache_policy=cache_policy and cache_policy.value,
        cache_token_file=cache_token_file,
        api_key_file=api_key_file,
        no_auth=no_auth,
        allow_fields=allow_field,
        allow_media_urls=allow_media_urls,
        request_log=request_log,
        encode_device=encode_device,
        decode_workers=decode_workers,
        config=config,
        vllm_args=ctx.args or None,
    )
    run(settings)


serve.context_settings = {"allow_extra_args": True}  # type: ignore[attr-defined]


def load_settings(**flags: Any) -> Settings:
    """Wrong settings end the program with status 2 and name the key."""
    try:
        settings = Settings.load(**flags)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "settings"
        fail(f"{key}: {first['msg']}", code=2)
    except (FileNotFoundError, ValueError) as error:
        fail(str(error), code=2)
    if not (settings.model / "config.json").is_file():
        fail(f"{settings.model}: not a model folder (it has no config.json)", code=2)
    return settings


def run(settings: Settings) -> None:
    """Until a signal comes. What keeps it from starting is told in one line, with status 1."""
    from server import logs
    from server.process import supervisor
    from server.process.supervisor import Program

    logs.configure()
    try:
        code = supervisor.run(
            settings,
            (
                Program("the API with its engine", "server.api", answers_http=True),
                Program("the encoding service", "server.encoding.service"),
            ),
        )
    except OSError as error:
        fail(str(error), code=1)
    raise typer.Exit(code)
