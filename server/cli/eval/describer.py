"""Let a server describe pictures and ground the descriptions, with and without the cache."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model_ext.eval.hallucination import Described, absent_nouns, hallucination_table
from model_ext.eval.item import Item
from model_ext.eval.render import markdown
from server.cli.eval.client import AskError, Client
from server.cli.eval.parts import media_part

PROMPT = "Describe the picture in detail."
CACHES = {"cache on": None, "cache off": False}


@dataclass(frozen=True, kw_only=True)
class Describer:
    client: Client
    model: str
    nouns: str
    max_tokens: int
    concurrency: int

    async def describe(self, picture: Path, cache: bool | None) -> Described:
        """Raises AskError: when the server does not ground the answer."""
        settings: dict[str, Any] = {"ground": {"nouns": self.nouns}}
        if cache is not None:
            settings["cache"] = cache
        content = [part_of(picture), {"type": "text", "text": PROMPT}]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "imagebind": settings,
        }
        answer = await self.exchange("/chat/completions", body, picture)
        try:
            grounding = answer["choices"][0]["message"]["grounding"]
        except (KeyError, IndexError, TypeError):
            raise AskError(f"{picture}: the response has no grounding") from None
        if grounding is None:
            raise AskError(f"{picture}: the server's detector is not available")
        return Described(
            picture.name,
            tuple(str(each["noun"]) for each in grounding),
            tuple(bool(each["found"]) for each in grounding),
        )

    async def false_found(self, picture: Path, nouns: Sequence[str]) -> tuple[int, int]:
        """The number of the nouns that the detector finds in the picture, and of all."""
        if not nouns:
            return 0, 0
        body = {"model": self.model, "input": part_of(picture), "queries": list(nouns)}
        answer = await self.exchange("/detections", body, picture)
        try:
            detections = answer["data"][0]["detections"]
            return len({each["query"] for each in detections}), len(nouns)
        except (KeyError, IndexError, TypeError):
            raise AskError(f"{picture}: the response has no detections") from None

    async def exchange(self, path: str, body: dict[str, Any], picture: Path) -> Any:
        return await self.client.retry(
            lambda: self.client.exchange("POST", path, body), picture.name
        )

    async def all(self, calls: Sequence[Callable[[], Awaitable[Any]]], title: str) -> list[Any]:
        places = asyncio.Semaphore(self.concurrency)

        async def one(call: Callable[[], Awaitable[Any]]) -> Any:
            async with places:
                result = await call()
            bar.update()
            return result

        with tqdm(total=len(calls), desc=title) as bar:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(call)) for call in calls]
        return [task.result() for task in tasks]


def part_of(picture: Path) -> dict[str, Any]:
    item = Item(id=picture.name, task="hallucination", question=PROMPT, answers=[])
    return media_part("image", str(picture), item)


async def measure(describer: Describer, files: Sequence[Path], out: Path) -> str:
    """Measure all pictures with and without the cache. Writes hallucination.jsonl and
    hallucination.md, and returns the table.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows, lines = [], []
    for name, cache in CACHES.items():
        answers: list[Described] = await describer.all(
            [lambda file=file, cache=cache: describer.describe(file, cache) for file in files],  # type: ignore[misc]
            name,
        )
        absent = [absent_nouns(answers, index) for index in range(len(answers))]
        counts: list[tuple[int, int]] = await describer.all(
            [
                lambda file=file, own=own: describer.false_found(file, own)  # type: ignore[misc]
                for file, own in zip(files, absent, strict=True)
            ],
            f"{name}, absent nouns",
        )
        rows.append((name, answers, counts))
        lines += [json.dumps({"run": name, **asdict(each)}) for each in answers]
    table = markdown(hallucination_table(rows))
    (out / "hallucination.jsonl").write_text("".join(line + "\n" for line in lines))
    (out / "hallucination.md").write_text(table)
    return table
