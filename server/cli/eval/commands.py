"""`bindserve eval URL` asks the questions of the paper's tasks; `eval score` computes the tables.

The modules that need NumPy or aiohttp are imported when a command runs, so that `--help` is fast.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from server.logs import fail

if TYPE_CHECKING:
    from model_ext.eval.data import Questions
    from model_ext.eval.results import Head
    from model_ext.eval.tasks.task import Task


class UrlGroup(TyperGroup):
    """Runs `ask` when the first argument is not the name of a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["ask", *args]
        return super().parse_args(ctx, args)


class DecodingName(StrEnum):
    released = "released"
    greedy = "greedy"


app = typer.Typer(cls=UrlGroup, add_completion=False, pretty_exceptions_enable=False)

Data = Annotated[Path, typer.Option(help="Folder in LVLM-eHub's layout, or a .tsv or .jsonl file.")]


@app.callback()
def evaluate() -> None:
    """Evaluate a model on the paper's 27 data sets and MME.

    \b
      bindserve eval URL --data DIR --tasks mme,iiit5k --out RUN   ask, then print the tables
      bindserve eval score RUN --data DIR                          score stored answers again
    """


@app.command()
def ask(
    url: Annotated[str, typer.Argument(help="The server, such as http://127.0.0.1:8000.")],
    data: Data,
    tasks: Annotated[str, typer.Option(help="Names of tasks, separated by commas: mme,svt.")],
    out: Annotated[Path, typer.Option(help="Folder of the answers. An existing run is resumed.")],
    model: Annotated[
        str | None, typer.Option(help="Model name in requests. Default: the server's first model.")
    ] = None,
    decoding: Annotated[
        DecodingName,
        typer.Option(help="Sampling. `released`: temperature 0.1, top-p 0.75, seed 0."),
    ] = DecodingName.released,
    concurrency: Annotated[int, typer.Option(min=1, max=4096, help="Requests at a time.")] = 16,
    retries: Annotated[int, typer.Option(min=0, help="Retries of a failed request.")] = 5,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for a request.")] = 600,
    caption_prompt: Annotated[
        str | None, typer.Option(help="Replaces the prompt of the caption tasks.")
    ] = None,
    text_only: Annotated[bool, typer.Option(help="Send the questions without media.")] = False,
    api_key: Annotated[str | None, typer.Option(envvar="OPENAI_API_KEY")] = None,
) -> None:
    """Ask a server the questions of the tasks, and print the tables."""
    import asyncio

    from model_ext.eval.errors import DataError
    from model_ext.eval.results import Head, ResultWriter, data_hash
    from model_ext.eval.tasks.decoding import Decoding
    from server.cli.eval.client import AskError

    selected = tasks_of(tasks)
    decoding_name: Decoding = "greedy" if decoding is DecodingName.greedy else "released"

    async def run(questions: "Questions") -> Head:
        import aiohttp
        from tqdm import tqdm

        from server.cli.eval.client import Asker, Client

        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        async with aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout),
            connector=aiohttp.TCPConnector(limit=concurrency),
        ) as session:
            client = Client(session=session, base=base_url(url), retries=retries)
            head = Head(
                url=base_url(url),
                model=model or await client.model(),
                decoding=decoding_name,
                caption_prompt=caption_prompt,
                text_only=text_only,
                data={name: data_hash(items) for name, items in questions.items()},
            )
            writer = ResultWriter.open(out, head)
            asker = Asker(
                client=client,
                writer=writer,
                model=head.model,
                decoding=decoding_name,
                text_only=text_only,
                concurrency=concurrency,
            )
            pairs = [(task, item) for task in selected for item in questions[task.name]]
            try:
                with tqdm(total=len(pairs), initial=len(writer.results), unit="question") as bar:
                    await asker.run(pairs, bar.update)
            finally:
                writer.close()
        return head

    try:
        questions = load(data, selected, caption_prompt)
        head = asyncio.run(run(questions))
        print_tables(out, head, questions, selected, None)
    except (AskError, DataError, ValueError) as e:
        fail(str(e))


@app.command()
def score(
    run: Annotated[Path, typer.Argument(help="The folder of a run (--out).")],
    data: Data,
    text_only: Annotated[
        Path | None,
        typer.Option(help="The folder of a run with --text-only, to add a column with its scores."),
    ] = None,
) -> None:
    """Score stored answers again: no server is needed."""
    from model_ext.eval.errors import DataError
    from model_ext.eval.results import read_results

    try:
        head, _ = read_results(run)
        selected = tasks_of(",".join(head.data))
        questions = load(data, selected, head.caption_prompt)
        print_tables(run, head, questions, selected, text_only)
    except (DataError, ValueError) as e:
        fail(str(e))


def tasks_of(names: str) -> "tuple[Task, ...]":
    from model_ext.eval.tasks.table import select_tasks

    try:
        return select_tasks(names)
    except ValueError as e:
        fail(str(e), code=2)


def load(data: Path, tasks: "tuple[Task, ...]", caption_prompt: str | None) -> "Questions":
    from model_ext.eval.data import load_data

    return load_data(data, tasks, caption_prompt)


def print_tables(
    folder: Path,
    head: "Head",
    questions: "Questions",
    tasks: "tuple[Task, ...]",
    text_only: Path | None,
) -> None:
    """Print the tables, and write them to tables.md and tables.tex in the run's folder."""
    from model_ext.eval.render import latex, markdown
    from model_ext.eval.score import score_task
    from model_ext.eval.tables import Run, tables

    answers = stored_answers(folder, questions)
    blind = stored_answers(text_only, questions) if text_only is not None else None
    scores = [
        score_task(
            task,
            questions[task.name],
            answers[task.name],
            blind[task.name] if blind is not None else None,
        )
        for task in tasks
    ]
    source = f"answers of {head.url}" + (", without media" if head.text_only else "")
    run = Run(model=head.model, decoding=head.decoding, source=source)
    results = tables(run, scores)
    text = "\n".join(map(markdown, results))
    (folder / "tables.md").write_text(text, encoding="utf-8")
    (folder / "tables.tex").write_text("\n".join(map(latex, results)), encoding="utf-8")
    typer.echo(text)


def stored_answers(folder: Path, questions: "Questions") -> dict[str, dict[str, str]]:
    """Answers by task and id, stripped as LVLM-eHub's model wrappers strip them.

    Raises DataError: when the run was made with other questions.
    """
    from model_ext.eval.errors import DataError
    from model_ext.eval.results import ANSWERS_FILE, data_hash, read_results

    head, results = read_results(folder)
    answers: dict[str, dict[str, str]] = {name: {} for name in questions}
    for name, items in questions.items():
        if head.data.get(name) != data_hash(items):
            raise DataError(folder / ANSWERS_FILE, f"has answers to other questions of {name}", 1)
    for (task, key), result in results.items():
        if task in answers:
            answers[task][key] = result.answer.strip()
    return answers


def base_url(url: str) -> str:
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        fail(f"URL: {url!r} does not start with http:// or https://", code=2)
    return url if url.endswith("/v1") else f"{url}/v1"
