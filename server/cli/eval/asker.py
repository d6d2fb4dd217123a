"""Sends the questions of a run to a server, and stores each answer as it arrives."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.results import Result, ResultWriter
from model_ext.eval.tasks.decoding import Decoding
from model_ext.eval.tasks.task import Task
from server.cli.eval.client import AskError, Client
from server.cli.eval.logprobs import candidate_logprobs
from server.cli.eval.parts import request_body


@dataclass(frozen=True, kw_only=True)
class Asker:
    client: Client
    writer: ResultWriter
    model: str
    decoding: Decoding
    text_only: bool
    concurrency: int
    imagebind: dict[str, Any] | None = None
    rank_candidates: bool = False

    async def run(self, questions: list[tuple[Task, Item]], progress: Callable[[], object]) -> None:
        """Ask the questions that have no complete stored result.

        The first error ends the run, after the answers that have arrived are stored.
        """
        pending = iter([question for question in questions if self.is_pending(*question)])
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.concurrency):
                    group.create_task(self.work(pending, progress))
        except* (AskError, ValueError) as errors:
            raise AskError(str(first(errors))) from errors

    def is_pending(self, task: Task, item: Item) -> bool:
        """Whether a question has no stored answer, or its stored answer lacks log-probabilities
        that are needed.
        """
        result = self.writer.results.get((task.name, item.id))
        return result is None or (self.ranks(item) and result.candidate_logprobs is None)

    def ranks(self, item: Item) -> bool:
        return self.rank_candidates and bool(item.candidates)

    async def work(
        self, pending: Iterator[tuple[Task, Item]], progress: Callable[[], object]
    ) -> None:
        for task, item in pending:
            try:
                self.writer.write(await self.ask(task, item))
            except AskError as e:
                raise AskError(f"{item.place}: {e}{media_list(item)}") from e
            except DataError as e:
                raise AskError(f"{item.place}: {e}") from e
            progress()

    async def ask(self, task: Task, item: Item) -> Result:
        # This reads and encodes media, which blocks, so it runs in a thread.
        body = await asyncio.to_thread(
            request_body,
            item,
            task,
            self.model,
            self.decoding,
            text_only=self.text_only,
            imagebind=self.imagebind,
        )
        name = f"{task.name}, question {item.id}"
        stored = self.writer.results.get((task.name, item.id))
        if stored is None:
            answer, reason = await self.client.answer(body, name)
        else:
            answer, reason = stored.answer, stored.finish_reason
        logprobs = None
        if self.ranks(item) and item.candidates:
            logprobs = await candidate_logprobs(self.client, body, item.candidates, name)
        return Result(
            task=task.name,
            id=item.id,
            answer=answer,
            finish_reason=reason,
            candidate_logprobs=logprobs,
        )


def media_list(item: Item) -> str:
    """Return a list of the question's files, for an error message."""
    paths = [source for _, source in item.media() if not source.startswith("data:")]
    return f" (the question's media: {', '.join(paths)})" if paths else ""


def first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
