"""Command-line options that several commands of `bindserve eval` share."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.logs import fail

if TYPE_CHECKING:
    from model_ext.eval.data import Questions
    from model_ext.eval.tasks.task import Task


class DecodingName(StrEnum):
    released = "released"
    greedy = "greedy"


Url = Annotated[str, typer.Argument(help="The server, such as http://127.0.0.1:8000.")]
Data = Annotated[Path, typer.Option(help="Folder in LVLM-eHub's layout, or a .tsv or .jsonl file.")]
Tasks = Annotated[
    str,
    typer.Option(
        help="Names of tasks, separated by commas: mme,svt, or those of a .jsonl file; "
        "`all` names all tasks of this file."
    ),
]
Model = Annotated[
    str | None, typer.Option(help="Model name in requests. Default: the server's first model.")
]
DecodingOption = Annotated[
    DecodingName, typer.Option(help="Sampling. `released`: temperature 0.1, top-p 0.75, seed 0.")
]
Concurrency = Annotated[int, typer.Option(min=1, max=4096, help="Requests at a time.")]
Retries = Annotated[int, typer.Option(min=0, help="Retries of a failed request.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds for a request.")]
CaptionPrompt = Annotated[
    str | None, typer.Option(help="Replaces the prompt of the caption tasks.")
]
RankCandidates = Annotated[
    bool,
    typer.Option(
        "--rank-candidates",
        help="In the task Visdial, also request the log-probability of each candidate, which the "
        "strict score needs.",
    ),
]
ApiKey = Annotated[str | None, typer.Option(envvar="OPENAI_API_KEY")]


def base_url(url: str) -> str:
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        fail(f"URL: {url!r} does not start with http:// or https://", code=2)
    return url if url.endswith("/v1") else f"{url}/v1"


def headers_of(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """Parse a JSON object. Exits with status 2 if the text is not a JSON object."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        fail(f"{option}: {text!r} is not a JSON object", code=2)
    return value


def load(
    data: Path, tasks: str, caption_prompt: str | None
) -> "tuple[tuple[Task, ...], Questions]":
    """Load the named tasks and their questions from `data`. Exits with status 2 on an unknown task.

    Raises DataError: when the data cannot be read.
    """
    from model_ext.eval.data import load_named
    from model_ext.eval.tasks.table import UnknownTask

    try:
        return load_named(data, tasks, caption_prompt)
    except UnknownTask as e:
        fail(str(e), code=2)
