"""`bindserve serve MODEL [options] [-- flags of vllm serve]`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from server.logs import fail
from server.settings import GrammarLimits, Settings

GRAMMAR_DEFAULTS = ", ".join(f"{name} {value:g}" for name, value in GrammarLimits())


class Policy(StrEnum):
    off = "off"
    refuse = "refuse"


def serve(
    ctx: typer.Context,
    model: Annotated[
        Path, typer.Argument(help="Model folder, written by `convert` or `train export`.")
    ],
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on. Default: 127.0.0.1 (this machine only)."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 8000.")] = None,
    served_model_name: Annotated[
        str | None, typer.Option(help="Model name in requests. Default: the folder's name.")
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="Retrieval cache: a cache folder, the URL of a `bindserve cache serve` (several "
            "URLs with commas: shards), or `none`. Default: the model folder's cache, if any."
        ),
    ] = None,
    cache_policy: Annotated[
        Policy | None,
        typer.Option(
            help="If the cache fails: `off` answers without it, with the response header "
            "x-bindserve-cache: unavailable. `refuse` rejects the request with status 503 and "
            "Retry-After. Default: refuse."
        ),
    ] = None,
    cache_token_file: Annotated[
        Path | None, typer.Option(help="File with the token of the retrieval service, on one line.")
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with API keys, one per line. Requests to every path except /health and "
            "/ready then need a key."
        ),
    ] = None,
    metrics_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the operator's key. Only this key may then read /metrics, and it "
            "opens no other path."
        ),
    ] = None,
    share_results: Annotated[
        bool | None,
        typer.Option(
            "--share-results",
            help="Let API keys share the embeddings of equal files. A client can then measure "
            "whether another client has sent a file.",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a trusted proxy, which writes the client's address into "
            "X-Forwarded-For. May be repeated."
        ),
    ] = None,
    header_timeout_s: Annotated[
        float | None,
        typer.Option(
            help="Maximum seconds until the headers of a request are complete. Default: 10."
        ),
    ] = None,
    body_min_rate: Annotated[
        int | None,
        typer.Option(
            help="Minimum bytes per second of a body, after its first 10 seconds. Default: 1024."
        ),
    ] = None,
    body_timeout_s: Annotated[
        float | None,
        typer.Option(help="Maximum seconds until the body of a request is complete. Default: 600."),
    ] = None,
    send_timeout_s: Annotated[
        float | None,
        typer.Option(
            help="Seconds in which a client must read 64 KiB of its response. Default: 30."
        ),
    ] = None,
    stall_s: Annotated[
        float | None,
        typer.Option(
            help="After this many seconds without a step of the engine or a message of the "
            "encoding service, /ready responds with 503. Default: 30."
        ),
    ] = None,
    stall_restart_s: Annotated[
        float | None,
        typer.Option(
            help="After this many seconds, the server restarts a stalled engine or encoding "
            "service. Default: 300."
        ),
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            help="Decoder that draws pictures as answers: a folder, or `model` for the folder "
            "decoders/image of the model. Default: no pictures."
        ),
    ] = None,
    no_auth: Annotated[
        bool | None,
        typer.Option(
            "--no-auth",
            help="Require no API keys, even if other machines can reach --host.",
        ),
    ] = None,
    allow_field: Annotated[
        list[str] | None,
        typer.Option(
            help="Accept this engine field in requests, e.g. chat_template. May be repeated."
        ),
    ] = None,
    grammar_limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Limit of structured outputs and tools. May be repeated. Names and defaults: "
            f"{GRAMMAR_DEFAULTS}.",
        ),
    ] = None,
    allow_media_urls: Annotated[
        bool | None,
        typer.Option(
            "--allow-media-urls",
            help="Fetch media from the http(s) URLs in requests (public addresses only).",
        ),
    ] = None,
    speech_model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a Whisper model in CTranslate2's format. Enables the expert `speech` "
            "and /v1/audio/transcriptions. Needs the extra `speech`."
        ),
    ] = None,
    ocr: Annotated[
        bool | None,
        typer.Option(
            "--ocr",
            help="Enable the expert `ocr`, which reads the text in pictures and videos. Needs the "
            "extra `ocr`.",
        ),
    ] = None,
    objects: Annotated[
        str | None,
        typer.Option(
            help="Enable the expert `objects`, which names the things in pictures and videos: "
            "`detector` (the detector of --detector does this), or the folder of an image "
            "classifier of transformers."
        ),
    ] = None,
    voice: Annotated[
        bool | None,
        typer.Option(
            "--voice",
            help="Enable /v1/audio/speech with an English voice. Needs the extra `voice`.",
        ),
    ] = None,
    expert: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Use this expert (speech, ocr or objects) for requests that name none. May be "
            "repeated.",
        ),
    ] = None,
    expert_policy: Annotated[
        Policy | None,
        typer.Option(
            help="If an expert fails or is too slow: `off` answers without it, with the response "
            "header x-bindserve-experts. `refuse` rejects the request with status 503. "
            "Default: off."
        ),
    ] = None,
    request_log: Annotated[
        bool | None,
        typer.Option(
            "--request-log",
            help="Write one line of JSON per request to standard output instead of the access "
            "log: status, milliseconds of each stage, tokens. Contents are not logged.",
        ),
    ] = None,
    page: Annotated[
        bool | None,
        typer.Option(
            "--page",
            help="Serve a web page at / on which people can ask about files and mixes of files.",
        ),
    ] = None,
    state_folder: Annotated[
        Path | None,
        typer.Option(
            help="Keep clients' files and batches in this folder, so that unfinished batches "
            "resume after a restart. Default: they are deleted when the server stops."
        ),
    ] = None,
    weaviate: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Also listen on this address with the protocol of Weaviate's module "
            "multi2vec-bind. Its client sends no API key, so this listener needs none.",
        ),
    ] = None,
    detector: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a detector: enables imagebind.ground and /v1/detections. Default: none."
        ),
    ] = None,
    encode_device: Annotated[
        str | None,
        typer.Option(
            help="Device of the encoders: auto, cpu or cuda. Default: auto (a GPU, if any)."
        ),
    ] = None,
    decode_workers: Annotated[
        int | None,
        typer.Option(help="Processes that decode media. Default: the number of cores, at most 4."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file with settings; server/settings.py lists all names."),
    ] = None,
) -> None:
    """Serve a model folder over HTTP, with OpenAI's API.

    Each setting can also be given in the environment (BINDSERVE_PORT=9000) or in the --config file;
    an option takes precedence over both. Flags of `vllm serve` follow after `--`:
    bindserve serve MODEL -- --max-model-len 2048
    Without --gpu-memory-utilization, the engine gets the GPU memory that the other processes do not
    need.
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
        metrics_key_file=metrics_key_file,
        share_results=share_results,
        trusted_proxies=trusted_proxy or None,
        header_timeout_s=header_timeout_s,
        body_min_rate=body_min_rate,
        body_timeout_s=body_timeout_s,
        send_timeout_s=send_timeout_s,
        stall_s=stall_s,
        stall_restart_s=stall_restart_s,
        allow_fields=allow_field,
        grammar=grammar_limits(grammar_limit),
        allow_media_urls=allow_media_urls,
        speech_model=speech_model,
        ocr=ocr,
        objects=objects,
        voice=voice,
        experts=expert or None,
        expert_policy=expert_policy and expert_policy.value,
        request_log=request_log,
        page=page,
        state_folder=state_folder,
        weaviate=weaviate,
        detector=detector,
        encode_device=encode_device,
        decoder=decoder,
        decode_workers=decode_workers,
        config=config,
        vllm_args=ctx.args or None,
    )
    run(settings)


serve.context_settings = {"allow_extra_args": True}  # type: ignore[attr-defined]


def grammar_limits(options: list[str] | None) -> dict[str, str] | None:
    """Convert options such as `alternatives=20000` to the setting `grammar`."""
    for option in options or ():
        if "=" not in option:
            fail(f"--grammar-limit {option}: write NAME=VALUE", code=2)
    return dict(option.split("=", 1) for option in options) if options else None


def load_settings(**flags: Any) -> Settings:
    """Load the settings. On a wrong setting, prints its key and exits with status 2."""
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
    """Serve until a signal arrives. On a start-up error, print one line and exit with 1."""
    from model_ext.config import has_language_model, read_document
    from server import logs
    from server.cli import preflight
    from server.engine.exposure import UsageError
    from server.process import supervisor
    from server.process.supervisor import Program
    from server.side import catalog

    logs.configure()
    try:
        preflight.check(settings)
        alone = not has_language_model(read_document(settings.model))
        name = "the API" if alone else "this child runs the API and the engine"
        code = supervisor.run(
            settings,
            (
                Program(name, "server.api", answers_http=True),
                Program("the encoding service", "server.encoding.service"),
                *catalog.programs(settings),
            ),
        )
    except UsageError as error:
        fail(str(error), code=2)
    except (OSError, ValueError) as error:  # a ValueError means that a key file contains no key
        fail(str(error), code=1)
    raise typer.Exit(code)
