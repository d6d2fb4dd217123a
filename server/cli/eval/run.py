"""One run of an evaluation: ask a server the questions of the tasks, and store the answers."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from tqdm import tqdm

from model_ext.eval.data import Questions
from model_ext.eval.results import Head, ResultWriter, data_hash
from model_ext.eval.tasks.decoding import Decoding
from model_ext.eval.tasks.task import Task
from model_ext.eval.wrong_media import wrong_media
from server.cli.eval.asker import Asker
from server.cli.eval.client import Client


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """`base`: the server's URL up to and including /v1.

    `timeout_s`: the time limit of one request. `recorded_url`: the URL to store with the run; None:
    `base`. A run resumes only with an equal URL.

    `imagebind`: the object `imagebind` in each request. `rank_candidates`: whether to request the
    log-probabilities of candidates. `model`: the model's name; None: the server's first model.
    """

    base: str
    out: Path
    decoding: Decoding
    model: str | None = None
    caption_prompt: str | None = None
    text_only: bool = False
    wrong_media: bool = False
    imagebind: dict[str, Any] | None = None
    recorded_url: str | None = None
    rank_candidates: bool = False
    concurrency: int = 16
    retries: int = 5
    timeout_s: float = 600
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """`sent`: the number of questions that this command sent. If the run was resumed, earlier
    commands sent the others.
    """

    head: Head
    sent: int
    seconds: float

    def __str__(self) -> str:
        rate = self.sent / self.seconds if self.seconds else 0.0
        return f"{self.sent} questions in {self.seconds:.1f} s: {rate:.2f} questions/s"


async def run(settings: RunSettings, tasks: tuple[Task, ...], questions: Questions) -> Finished:
    """Ask the questions that have no stored answer in `settings.out`.

    Raises AskError: when the server rejects a request, or a request fails after all retries. Raises
    DataError: when a file cannot be read, or `settings.out` contains another run.
    """
    async with aiohttp.ClientSession(
        headers=settings.headers,
        timeout=aiohttp.ClientTimeout(total=settings.timeout_s),
        connector=aiohttp.TCPConnector(limit=settings.concurrency),
    ) as session:
        client = Client(session=session, base=settings.base, retries=settings.retries)
        head = Head(
            url=settings.recorded_url or settings.base,
            model=settings.model or await client.model(),
            decoding=settings.decoding,
            caption_prompt=settings.caption_prompt,
            text_only=settings.text_only,
            imagebind=settings.imagebind,
            wrong_media=settings.wrong_media,
            data={name: data_hash(items) for name, items in questions.items()},
        )
        if settings.wrong_media:
            questions = {name: wrong_media(items) for name, items in questions.items()}
        writer = ResultWriter.open(settings.out, head)
        asker = Asker(
            client=client,
            writer=writer,
            model=head.model,
            decoding=head.decoding,
            text_only=head.text_only,
            imagebind=head.imagebind,
            rank_candidates=settings.rank_candidates,
            concurrency=settings.concurrency,
        )
        pairs = [(task, item) for task in tasks for item in questions[task.name]]
        sent = sum(asker.is_pending(*pair) for pair in pairs)
        start = time.monotonic()
        try:
            with tqdm(total=len(pairs), initial=len(pairs) - sent, unit="question") as bar:
                await asker.run(pairs, bar.update)
        finally:
            writer.close()
    return Finished(head, sent, time.monotonic() - start)
