"""Step `server`: the whole server over HTTP, with the 7B language model and ImageBind-huge.

All weights are random. vLLM's flag `--load-format dummy` creates the language model's weights, and
the setting `encode_load_format` creates the encoders' weights. All other flags have their default
values.
"""

import asyncio
import base64
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
import torch

from deploy.gpu.arguments import Arguments
from deploy.gpu.rows import Rows
from deploy.loadtest.media import Media, avi, jpeg, picture, zoom
from model_ext.bench import random_model
from model_ext.bench.serving_folder import TINY_ENCODERS, write_serving_folder
from model_ext.imagebind.config import ImageBindConfig
from server.bench import start_up
from server.bench.service import Service, start_server

READY_S = {"full": 200, "tiny": 1200}
MAX_NEW_IMAGE_MS = 15  # additional time to the first token, compared with a request without image
TEXT = "Describe what you perceive, in as much detail as you can. " * 3

Kind = str  # "text", "known image" (in the result cache), "new image" or "video"


@dataclass(frozen=True, slots=True)
class Schedule:
    tokens: int  # Tokens in each answer.
    alone: int  # Number of requests that are sent one after the other.
    loads: tuple[
        tuple[int, Kind, int], ...
    ]  # (number of concurrent clients, kind of request, requests).


FULL = Schedule(
    128,
    20,
    (
        (64, "text", 192),
        (64, "known image", 192),
        (64, "new image", 192),
        (64, "video", 128),
        (192, "text", 576),
        (192, "known image", 576),
        (192, "new image", 576),
    ),
)
TINY = Schedule(4, 2, ((4, "text", 8), (4, "known image", 8), (4, "new image", 8), (2, "video", 2)))


def main() -> None:
    arguments = Arguments.parse(__doc__)
    folder = arguments.work / "server"
    shape = random_model.LLAMA_7B if arguments.full else random_model.TINY
    encoders = ImageBindConfig.released() if arguments.full else TINY_ENCODERS
    write_serving_folder(folder, shape, encoders)
    arguments.wait_until_quiet()
    flags = start_up.flags("cuda" if torch.cuda.is_available() else "cpu")
    with start_server(folder, arguments.work / "server.log", flags) as service:
        arguments.rows.number(
            "start, from command to ready", service.wait(READY_S[arguments.size]), "s"
        )
        asyncio.run(measure(service, arguments.rows, FULL if arguments.full else TINY))


async def measure(service: Service, rows: Rows, schedule: Schedule) -> None:
    timeout, connector = aiohttp.ClientTimeout(total=120), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(service.url, timeout=timeout, connector=connector) as client:
        await measure_with(RequestSender(client), rows, schedule)


async def measure_with(sender: "RequestSender", rows: Rows, schedule: Schedule) -> None:
    for kind in ("text", "known image", "new image", "video"):  # warm-up, not measured
        await asyncio.gather(*(sender.request(kind, schedule.tokens) for _ in range(4)))
    first_tokens: dict[Kind, float] = {}
    for kind in ("text", "known image", "new image", "video"):
        times = [(await sender.request(kind, 2)).first_token_s for _ in range(schedule.alone)]
        first_tokens[kind] = statistics.median(times) * 1000
        rows.number(f"first token, one request, {kind}", first_tokens[kind], "ms")
    # A warm-up, which is not measured: vLLM compiles some kernels when it first needs them.
    clients, kind, requests = schedule.loads[0]
    await sender.run(clients, kind, requests, schedule.tokens)
    full = schedule is FULL
    rows.number(
        "first token, time of a new image minus time of text",
        first_tokens["new image"] - first_tokens["text"],
        "ms",
        at_most=MAX_NEW_IMAGE_MS if full else None,
    )
    for clients, kind, requests in schedule.loads:
        result = await sender.run(clients, kind, requests, schedule.tokens)
        rows.number(
            f"{clients} clients, {kind}",
            result.requests_per_s,
            "requests/s",
            detail=f"({result.tokens_per_s:,.0f} tokens/s, first token {result.first_token_ms:,.0f}"
            f" ms median, {result.failed} failed)",
        )
        rows.check(f"{clients} clients, {kind}: every request answered", result.failed == 0)


@dataclass(frozen=True, slots=True)
class StreamTiming:
    first_token_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class LoadTiming:
    requests_per_s: float
    tokens_per_s: float
    first_token_ms: float
    failed: int


class RequestSender:
    """Sends chat requests with streamed answers. A request's kind determines its attachment."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client
        self._random = random.Random(0)
        rng = np.random.default_rng(0)
        clips = [zoom(picture(rng, 320, 240), 24) for _ in range(2)]
        self._media = Media(
            {
                "image": [jpeg(picture(rng, 640, 480)) for _ in range(4)],
                "video": [avi([jpeg(frame) for frame in clip], 8) for clip in clips],
            }
        )

    async def run(self, clients: int, kind: Kind, requests: int, tokens: int) -> LoadTiming:
        """Send `requests` requests by `clients` concurrent clients."""
        remaining = iter(range(requests))
        answers, failed = list[StreamTiming](), 0

        async def client() -> None:
            nonlocal failed
            for _ in remaining:
                try:
                    answers.append(await self.request(kind, tokens))
                except (aiohttp.ClientError, RuntimeError, TimeoutError) as error:
                    failed += 1
                    print(f"{kind}: {error}", flush=True)

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        elapsed = time.perf_counter() - started
        firsts = [answer.first_token_s for answer in answers] or [float("nan")]
        return LoadTiming(
            len(answers) / elapsed,
            sum(answer.tokens for answer in answers) / elapsed,
            statistics.median(firsts) * 1000,
            failed,
        )

    async def request(self, kind: Kind, tokens: int) -> StreamTiming:
        """Send one request, and read the streamed answer of `tokens` tokens.

        Raises RuntimeError: when the status is not 200, or the stream stops before its end.
        """
        body = {
            "model": "any",
            "messages": [{"role": "user", "content": self._content(kind)}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        started, end = time.perf_counter(), False
        first: float | None = None
        count = 0
        async with self._client.post("/v1/chat/completions", json=body) as response:
            if response.status != 200:
                raise RuntimeError(f"status {response.status}: {(await response.text())[:300]}")
            async for line in response.content:
                if line.startswith(b"data: [DONE]"):
                    end = True
                elif line.startswith(b"data: "):
                    count, first = self._event(line[6:], count, first, started)
        if not end or first is None:
            raise RuntimeError("the stream stopped before its end")
        return StreamTiming(first, count)

    @staticmethod
    def _event(
        data: bytes, tokens: int, first: float | None, started: float
    ) -> tuple[int, float | None]:
        event = json.loads(data)
        if event.get("usage"):
            return int(event["usage"]["completion_tokens"]), first
        role_only = not event["choices"] or event["choices"][0]["delta"].get("role")
        if first is None and not role_only:
            first = time.perf_counter() - started
        return tokens, first

    def _content(self, kind: Kind) -> list[dict[str, Any]]:
        return [*self._attachment(kind), {"type": "text", "text": TEXT}]

    def _attachment(self, kind: Kind) -> list[dict[str, Any]]:
        if kind == "text":
            return []
        if kind == "video":
            data = self._media.distinct("video", self._random)
            url = f"data:video/x-msvideo;base64,{base64.b64encode(data).decode()}"
            return [{"type": "video_url", "video_url": {"url": url}}]
        choose: Callable[[str, random.Random], bytes] = (
            self._media.same if kind == "known image" else self._media.distinct
        )
        data = choose("image", self._random)
        url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
        return [{"type": "image_url", "image_url": {"url": url}}]


if __name__ == "__main__":
    main()
