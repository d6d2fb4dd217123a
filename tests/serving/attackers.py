"""Clients that try to degrade a server for other clients. Each runs until it is cancelled.

At least one attacker of each kind stays within the server's limits. tests/serving/neighbours.py
measures how much another client is slowed down.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.server.media_files import media

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
CONNECTIONS = 300
ERRORS = (OSError, httpx.HTTPError, asyncio.IncompleteReadError, ValueError)
number = itertools.count(random.SystemRandom().randrange(1 << 40))


class Attacker:
    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = urlsplit(url), key
        headers = {"Authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=400)
        self.client = httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits)

    async def post(self, path: str, body: Any, wait_s: float = 3) -> None:
        """Send a request and disconnect after `wait_s` at the latest."""
        with contextlib.suppress(*ERRORS, TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.client.post(path, json=body)

    async def form(self, files: Any, wait_s: float = 60) -> None:
        with contextlib.suppress(*ERRORS, TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.client.post(CHAT, files=files)

    @contextlib.asynccontextmanager
    async def raw(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(self.url.hostname, self.url.port, limit=1)
        try:
            yield reader, writer
        finally:
            writer.close()

    def head(self, path: str, *headers: str, length: int = 1 << 20) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.key}"]
        return "\r\n".join([*lines, f"Content-Length: {length}", *headers, "", ""]).encode()


Attack = Callable[[Attacker], Awaitable[None]]


@dataclass(frozen=True)
class Entry:
    kind: str  # attackers of one kind attack the same resource
    attack: Attack
    clients: int = 4
    # A key of HONEST: the permitted requests (chats, videos or embeddings) with which the attack is
    # compared. Empty: no permitted requests are comparable.
    honest: str = ""


ATTACKERS: dict[str, Entry] = {}


def attacker(kind: str, clients: int = 4, honest: str = "") -> Callable[[Attack], Attack]:
    def add(attack: Attack) -> Attack:
        name = attack.__name__.replace("_", " ")
        ATTACKERS[name] = Entry(kind, attack, clients, honest)
        return attack

    return add


async def run(entry: Entry, url: str, key: str) -> None:
    """Run the attack with all its clients until cancelled."""
    each = Attacker(url, key)

    async def repeat() -> None:
        while True:
            with contextlib.suppress(*ERRORS, TimeoutError):
                await entry.attack(each)
            await asyncio.sleep(0.01)

    try:
        await asyncio.gather(*(repeat() for _ in range(entry.clients)))
    finally:
        await each.client.aclose()


def run_process(name: str, url: str, key: str) -> None:
    """Run this attack or permitted load in the calling process until it is killed."""
    global number
    number = itertools.count(random.SystemRandom().randrange(1 << 40))  # not as in other attacks
    asyncio.run(run((ATTACKERS | HONEST)[name], url, key))


def by_turns(entries: dict[str, Entry]) -> list[tuple[str, Entry]]:
    """The first attacker of each kind, then the second of each kind, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for name, entry in entries.items():
        turns.append((seen[entry.kind], name, entry))
        seen[entry.kind] += 1
    turns.sort(key=lambda turn: turn[0])
    return [(name, entry) for _, name, entry in turns]


def chat(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {
        "model": "any",
        "max_tokens": 2,
        "messages": [{"role": "user", "content": text}],
        **fields,
    }


def constrained(**structure: Any) -> dict[str, Any]:
    return chat(structured_outputs=structure)


# Structured output


@attacker("structured output")
async def one_choice_of_200_kb(a: Attacker) -> None:
    await a.post(CHAT, constrained(choice=["a" * 200_000]))


@attacker("structured output")
async def choice_of_20000_words(a: Attacker) -> None:
    await a.post(CHAT, constrained(choice=[f"word{i}" for i in range(20_000)]))


@attacker("structured output")
async def choice_of_200_words_within_limits(a: Attacker) -> None:
    await a.post(CHAT, constrained(choice=[f"word{i} {next(number)}" for i in range(200)]))


@attacker("regular expression")
async def nested_repetitions(a: Attacker) -> None:
    await a.post(CHAT, constrained(regex="(.{0,200}){200}"))


@attacker("regular expression")
async def long_alternation(a: Attacker) -> None:
    await a.post(CHAT, constrained(regex="|".join(f"a{i}b*" for i in range(20_000))))


@attacker("regular expression")
async def short_expression_within_limits(a: Attacker) -> None:
    await a.post(CHAT, constrained(regex=f"[a-z]{{1,40}}{next(number)}"))


@attacker("schema")
async def wide_schema(a: Attacker) -> None:
    properties = {f"p{i}": {"type": "string", "maxLength": 9999} for i in range(5000)}
    await a.post(CHAT, constrained(json={"type": "object", "properties": properties}))


@attacker("schema")
async def deep_schema(a: Attacker) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(400):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    await a.post(CHAT, constrained(json=schema))


@attacker("schema")
async def recursive_schema(a: Attacker) -> None:
    await a.post(CHAT, constrained(json={"$ref": "#"}))


@attacker("schema")
async def new_schemas_within_limits(a: Attacker) -> None:
    properties = {f"p{i}x{next(number)}": {"type": "string"} for i in range(50)}
    form = {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": {"properties": properties}},
    }
    await a.post(CHAT, chat(response_format=form))


@attacker("schema")
async def tools_of_many_parameters(a: Attacker) -> None:
    properties = {f"p{i}x{next(number)}": {"type": "integer"} for i in range(1000)}
    function = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    await a.post(
        CHAT, chat(tools=[{"type": "function", "function": function}], tool_choice="required")
    )


@attacker("grammar")
async def left_recursion(a: Attacker) -> None:
    await a.post(CHAT, constrained(grammar='root ::= root "a" | "b"'))


@attacker("grammar")
async def new_grammars_within_limits(a: Attacker) -> None:
    await a.post(CHAT, constrained(grammar=f'root ::= ("yes" | "no{next(number)}")+'))


# Slow and large input


@attacker("slow connections", clients=CONNECTIONS)
async def headers_without_an_end(a: Attacker) -> None:
    async with a.raw() as (_, writer):
        writer.write(a.head(CHAT)[:-2])
        while not writer.is_closing():
            await writer.drain()
            await asyncio.sleep(9)
            writer.write(b"X: y\r\n")


@attacker("slow connections", clients=CONNECTIONS)
async def uploads_of_one_byte_in_9_s(a: Attacker) -> None:
    async with a.raw() as (_, writer):
        writer.write(a.head("/v1/files", "Content-Type: multipart/form-data; boundary=B"))
        while not writer.is_closing():
            await writer.drain()
            await asyncio.sleep(9)
            writer.write(b"-")


@attacker("slow connections", clients=CONNECTIONS)
async def uploads_within_the_minimum_rate(a: Attacker) -> None:
    async with a.raw() as (_, writer):
        writer.write(a.head("/v1/files", "Content-Type: multipart/form-data; boundary=B"))
        writer.write(b'--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n')
        while not writer.is_closing():
            writer.write(b"x" * 1500)
            await writer.drain()
            await asyncio.sleep(1)


@attacker("slow connections", clients=CONNECTIONS)
async def idle_connections(a: Attacker) -> None:
    async with a.raw() as (reader, _):
        await reader.read()


@attacker("slow readers", clients=30)
async def streams_that_nobody_reads(a: Attacker) -> None:
    body = json.dumps(chat(max_tokens=400, stream=True, logprobs=True, top_logprobs=20)).encode()
    async with a.raw() as (_, writer):
        writer.write(a.head(CHAT, "Content-Type: application/json", length=len(body)) + body)
        await writer.drain()
        await asyncio.sleep(60)


@attacker("slow readers", clients=30)
async def streams_that_are_read_slowly(a: Attacker) -> None:
    body = json.dumps(chat(max_tokens=400, stream=True, logprobs=True, top_logprobs=20)).encode()
    async with a.raw() as (reader, writer):
        writer.write(a.head(CHAT, "Content-Type: application/json", length=len(body)) + body)
        while await reader.read(4096):
            await asyncio.sleep(1)


@attacker("headers")
async def header_flood(a: Attacker) -> None:
    async with a.raw() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * (50 << 20))
        await writer.drain()
        await reader.read()


@attacker("headers", clients=16)
async def headers_just_within_the_limit(a: Attacker) -> None:
    headers = {f"x-{i}": "y" * 600 for i in range(90)}
    await a.client.get("/v1/models", headers=headers)


@attacker("large input")
async def prompts_of_16_mb(a: Attacker) -> None:
    await a.post(CHAT, chat("word " * (16 << 20 >> 2)))


@attacker("large input")
async def deep_json(a: Attacker) -> None:
    content = b'{"model":"any","messages":' + b"[" * 200_000
    await a.client.post(CHAT, content=content, headers={"Content-Type": "application/json"})


@attacker("large input")
async def many_messages_within_limits(a: Attacker) -> None:
    messages = [{"role": "user", "content": "a"}] * 5000
    await a.post(CHAT, {"model": "any", "messages": messages, "max_tokens": 1})


@attacker("forms")
async def many_tiny_fields(a: Attacker) -> None:
    fields = {f"f{i}": (None, b"x") for i in range(100_000)}
    await a.form(fields)


@attacker("forms")
async def files_that_are_no_media(a: Attacker) -> None:
    files = {f"f{i}": ("a.jpg", os.urandom(100_000)) for i in range(8)}
    await a.form({"request": (None, json.dumps(chat())), **files})


# Attacks that only send many permitted requests, and the load (HONEST) with which they are compared


@attacker("cancel storm", clients=32, honest="honest short chats")
async def cancel_storm(a: Attacker) -> None:
    await a.post(CHAT, chat("word " * 100, max_tokens=300, ignore_eos=True), wait_s=0.1)


@attacker("tokens", clients=2, honest="honest chats")
async def sixteen_choices_of_8192_tokens(a: Attacker) -> None:
    await a.post(CHAT, chat(max_tokens=8192, n=16, ignore_eos=True, temperature=1), wait_s=60)


@attacker("videos", clients=200, honest="honest videos")
async def videos_of_200_requests(a: Attacker) -> None:
    await one_video(a)


@attacker("batches", clients=4, honest="honest completions")
async def completions_of_64_prompts(a: Attacker) -> None:
    prompts = [f"word {next(number)}" for _ in range(64)]  # the maximum
    body = {"model": "any", "prompt": prompts, "max_tokens": 100, "ignore_eos": True}
    await a.post(COMPLETIONS, body, wait_s=60)


@attacker("batches", clients=2, honest="honest chats")
async def batch_flood(a: Attacker) -> None:
    body = chat(max_tokens=20, ignore_eos=True)
    line = {"method": "POST", "url": CHAT, "body": body}
    lines = "\n".join(json.dumps({"custom_id": str(i), **line}) for i in range(100))
    made = await a.client.post(
        "/v1/files", files={"file": ("b.jsonl", lines)}, data={"purpose": "batch"}
    )
    batch = {"input_file_id": made.json()["id"], "endpoint": CHAT, "completion_window": "1h"}
    created = await a.client.post("/v1/batches", json=batch)
    await asyncio.sleep(2)
    await a.client.post(f"/v1/batches/{created.json()['id']}/cancel")


@attacker("embeddings", clients=8, honest="honest embeddings")
async def embedding_flood(a: Attacker) -> None:
    texts = [f"text {next(number)}" for _ in range(256)]
    await a.post("/v1/embeddings", {"model": "any", "input": texts}, wait_s=60)


async def one_video(a: Attacker) -> None:
    data = media("video_a.mp4") + str(next(number)).encode()
    await a.form({"request": (None, json.dumps(chat())), "v": ("v.mp4", data)})


async def one_chat(a: Attacker) -> None:
    await a.post(CHAT, chat(max_tokens=300, ignore_eos=True), wait_s=60)


async def one_short_chat(a: Attacker) -> None:
    """A request of the cancel storm with few tokens, whose answer is read to its end."""
    await a.post(CHAT, chat("word " * 100, max_tokens=8, ignore_eos=True), wait_s=60)


async def one_completion(a: Attacker) -> None:
    body = {"model": "any", "prompt": f"word {next(number)}", "max_tokens": 100}
    await a.post(COMPLETIONS, {**body, "ignore_eos": True}, wait_s=60)


async def few_embeddings(a: Attacker) -> None:
    texts = [f"text {next(number)}" for _ in range(16)]
    await a.post("/v1/embeddings", {"model": "any", "input": texts}, wait_s=60)


HONEST = {
    "honest chats": Entry("tokens", one_chat, 32),
    "honest short chats": Entry("cancel storm", one_short_chat, 32),
    "honest completions": Entry("batches", one_completion, 256),
    "honest videos": Entry("videos", one_video, 8),
    "honest embeddings": Entry("embeddings", few_embeddings, 8),
}
