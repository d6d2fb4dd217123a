"""`bindserve eval`: ask a server the questions of the paper's tasks, and compute the tables of
scores.

The modules that need NumPy or aiohttp are imported when a command runs, so that `--help` is fast.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from server.cli.eval import options
from server.cli.eval.compare import compare
from server.cli.eval.control_runs.controls import controls
from server.cli.eval.hallucination import hallucination
from server.cli.eval.options import DecodingName
from server.logs import fail


class UrlGroup(TyperGroup):
    """Runs the command `ask` if the first argument is not the name of a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["ask", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=UrlGroup, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def evaluate() -> None:
    """Evaluate a model on the paper's 27 data sets and MME.

    \b
      bindserve eval URL --data DIR --tasks mme,iiit5k --out RUN   ask, then print the tables
      bindserve eval score RUN --data DIR                          score stored answers again
      bindserve eval compare RUN1 RUN2 --data DIR                  test the difference of two runs
      bindserve eval controls URL MODEL --data DIR --tasks ... --out DIR
      bindserve eval hallucination URL --pictures DIR --out DIR    nouns that are not in pictures
    """


@app.command()
def ask(
    url: options.Url,
    data: options.Data,
    tasks: options.Tasks,
    out: Annotated[Path, typer.Option(help="Folder of the answers. An existing run is resumed.")],
    model: options.Model = None,
    decoding: options.DecodingOption = DecodingName.released,
    concurrency: options.Concurrency = 16,
    retries: options.Retries = 5,
    timeout: options.Timeout = 600,
    caption_prompt: options.CaptionPrompt = None,
    text_only: Annotated[bool, typer.Option(help="Send the questions without media.")] = False,
    wrong_media: Annotated[
        bool, typer.Option("--wrong-media", help="Send the media of another question.")
    ] = False,
    imagebind: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='bindserve\'s options, such as {"cache": false}.'),
    ] = None,
    rank_candidates: options.RankCandidates = False,
    api_key: options.ApiKey = None,
) -> None:
    """Ask a server the questions of the tasks, and print the tables."""
    import asyncio

    from model_ext.eval.errors import DataError
    from server.cli.eval.client import AskError
    from server.cli.eval.run import RunSettings, run
    from server.cli.eval.stored import read_run, write_tables

    settings = RunSettings(
        base=options.base_url(url),
        out=out,
        decoding=decoding.value,
        model=model,
        caption_prompt=caption_prompt,
        text_only=text_only,
        wrong_media=wrong_media,
        imagebind=options.json_object(imagebind, "--imagebind"),
        rank_candidates=rank_candidates,
        concurrency=concurrency,
        retries=retries,
        timeout_s=timeout,
        headers=options.headers_of(api_key),
    )
    try:
        selected, questions = options.load(data, tasks, caption_prompt)
        finished = asyncio.run(run(settings, selected, questions))
        typer.echo(write_tables(read_run(out), selected, questions))
        typer.echo(str(finished), err=True)
    except (AskError, DataError, ValueError) as e:
        fail(str(e))


@app.command()
def score(
    run: Annotated[Path, typer.Argument(help="The folder of a run (--out).")],
    data: options.Data,
    text_only: Annotated[
        Path | None,
        typer.Option(help="The folder of a run with --text-only, to add a column with its scores."),
    ] = None,
) -> None:
    """Score stored answers again, without a server. Also writes a page of the wrong answers."""
    from model_ext.eval.errors import DataError
    from server.cli.eval.stored import load_run, write_tables

    try:
        stored, selected, questions = load_run(run, data)
        typer.echo(write_tables(stored, selected, questions, text_only))
    except (DataError, ValueError) as e:
        fail(str(e))


app.command()(compare)
app.command()(hallucination)
app.command(context_settings={"allow_extra_args": True})(controls)
