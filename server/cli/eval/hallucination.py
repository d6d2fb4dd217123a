"""`bindserve eval hallucination`: let a server describe pictures, and count made-up nouns.

The server needs a detector (--detector). The command asks for a detailed description of each
picture, with and without the retrieval cache. The modules that need NumPy or aiohttp are imported
when the command runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from server.cli.eval import options
from server.logs import fail

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def hallucination(
    url: options.Url,
    pictures: Annotated[Path, typer.Option(help="Folder of pictures to describe.")],
    out: Annotated[Path, typer.Option(help="Folder of the answers' nouns and the table.")],
    model: options.Model = None,
    nouns: Annotated[str, typer.Option(help="Who finds the nouns: parser or model.")] = "parser",
    max_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of an answer.")] = 256,
    concurrency: options.Concurrency = 8,
    retries: options.Retries = 5,
    timeout: options.Timeout = 600,
    api_key: options.ApiKey = None,
) -> None:
    """Count the nouns of descriptions that a detector does not find in the picture."""
    import asyncio

    import aiohttp

    from model_ext.eval.errors import DataError
    from server.cli.eval.client import AskError, Client
    from server.cli.eval.describer import Describer, measure

    files = sorted(each for each in pictures.glob("*") if each.suffix.lower() in SUFFIXES)
    if not files:
        fail(f"--pictures {pictures}: there are no pictures ({', '.join(sorted(SUFFIXES))})")

    async def run() -> str:
        async with aiohttp.ClientSession(
            headers=options.headers_of(api_key), timeout=aiohttp.ClientTimeout(total=timeout)
        ) as session:
            client = Client(session=session, base=options.base_url(url), retries=retries)
            describer = Describer(
                client=client,
                model=model or await client.model(),
                nouns=nouns,
                max_tokens=max_tokens,
                concurrency=concurrency,
            )
            return await measure(describer, files, out)

    try:
        typer.echo(asyncio.run(run()))
    except (AskError, DataError, ValueError) as error:
        fail(str(error))
    except BaseExceptionGroup as errors:
        fail(str(errors.exceptions[0]))
