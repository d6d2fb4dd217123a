"""`bindserve eval controls`: runs that show whether media and cache cause a model's scores."""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.eval import options
from server.cli.eval.options import DecodingName
from server.logs import fail

# The stored URL of the run with the shuffled cache. The port of its server differs at each start.
SECOND_URL = "a second server with the shuffled cache"
ON, OFF, WRONG, BLIND, SHUFFLED = "cache-on", "cache-off", "wrong-media", "text-only", "shuffled"


def controls(
    ctx: typer.Context,
    url: options.Url,
    model_folder: Annotated[
        Path,
        typer.Argument(help="Model folder of the server at URL. The second server loads it, too."),
    ],
    data: options.Data,
    tasks: options.Tasks,
    out: Annotated[Path, typer.Option(help="Folder of all runs. Existing runs are resumed.")],
    cache: Annotated[
        Path | None,
        typer.Option(help="Cache folder of the server at URL. Default: the model's own."),
    ] = None,
    model: options.Model = None,
    decoding: options.DecodingOption = DecodingName.greedy,
    concurrency: options.Concurrency = 16,
    retries: options.Retries = 5,
    timeout: options.Timeout = 600,
    caption_prompt: options.CaptionPrompt = None,
    api_key: options.ApiKey = None,
) -> None:
    """Run the tasks with the cache on, off and shuffled, with wrong media, and without media.

    For the shuffled cache, the command starts a second server of the model folder on this
    machine, and stops it at the end. Flags of `vllm serve` for this server follow after `--`.
    """
    import asyncio
    from dataclasses import replace

    from cache_index.errors import CacheError
    from cache_index.shuffle import shuffle
    from model_ext.eval.errors import DataError
    from server.cli.eval.client import AskError
    from server.cli.eval.control_runs.second_server import SecondServerError, second_server
    from server.cli.eval.control_runs.table import write_controls
    from server.cli.eval.run import RunSettings, run
    from server.cli.eval.stored import is_complete

    base = RunSettings(
        base=options.base_url(url),
        out=out / ON,
        decoding=decoding.value,
        model=model,
        caption_prompt=caption_prompt,
        imagebind={"cache": True},
        concurrency=concurrency,
        retries=retries,
        timeout_s=timeout,
        headers=options.headers_of(api_key),
    )
    runs = {
        ON: base,
        OFF: replace(base, out=out / OFF, imagebind={"cache": False}),
        WRONG: replace(base, out=out / WRONG, wrong_media=True),
        BLIND: replace(base, out=out / BLIND, text_only=True, imagebind=None),
    }
    try:
        selected, questions = options.load(data, tasks, caption_prompt)
        for name, settings in runs.items():
            typer.echo(f"run {name}", err=True)
            asyncio.run(run(settings, selected, questions))
        if not is_complete(out / SHUFFLED, questions):
            typer.echo(f"run {SHUFFLED}", err=True)
            folder = out / "shuffled-cache"
            if not folder.exists():
                shuffle(cache_folder(model_folder, cache), folder, progress=False)
            log = out / "second-server.log"
            with second_server(model_folder, folder, log, ctx.args) as second:
                settings = replace(
                    base,
                    base=f"{second}/v1",
                    recorded_url=SECOND_URL,
                    out=out / SHUFFLED,
                    model=None,
                    headers={},
                )
                asyncio.run(run(settings, selected, questions))
        typer.echo(write_controls(out, selected, questions))
    except (AskError, CacheError, DataError, SecondServerError, ValueError) as e:
        fail(str(e))


def cache_folder(model: Path, cache: Path | None) -> Path:
    """The folder of the cache to shuffle: `cache`, or the cache that the model's config.json names.

    Raises CacheError: when the cache is not a folder.
    Raises ValueError: when config.json is damaged.
    """
    from cache_index.errors import CacheError
    from model_ext.config import read_sections
    from server.cli.serve import load_settings
    from server.conditioning.open_cache import cache_source

    if cache is not None:
        return cache
    source = cache_source(load_settings(model=model), read_sections(model))
    if not isinstance(source, Path):
        raise CacheError(f"{model}: no cache folder to shuffle; name one with --cache")
    return source
