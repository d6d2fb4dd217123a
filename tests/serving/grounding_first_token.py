"""Compare the time to the first token with and without grounding, in interleaved pairs.

    python -m tests.serving.grounding_first_token --url http://127.0.0.1:8000 --model demo

The server needs a detector and a parser. Each chat is streamed and has one picture: the same in all
chats, so that its embedding is cached, or a new one in each chat. In the last rows, another client
sends requests to /v1/detections all the time.
"""

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count

import httpx

from model_ext.bench.pairs import measure, ratio
from tests.serving.grounding_requests import CHAT, DETECTIONS, NOUNS, drawing, request

WARM_UP_S = 1.0  # how long the other client sends requests before the chat
seeds = count(1000)


@dataclass(frozen=True)
class Chat:
    new: bool = False  # whether the picture is new
    ground: bool = False
    beside: bool = False  # whether another client's grounding runs


@dataclass(frozen=True)
class Clock:
    client: httpx.Client
    model: str

    def first_token_s(self, chat: Chat) -> float:
        """Send a chat. Returns the seconds until the first chunk with text."""
        picture = drawing(next(seeds) if chat.new else 0)
        body = request(CHAT, [picture], chat.ground, stream=True, model=self.model)
        with self.other_client() if chat.beside else nullcontext():
            started, first = time.perf_counter(), 0.0
            with self.client.stream("POST", CHAT, json=body) as response:
                response.raise_for_status()
                for line in response.iter_lines():  # until the end, which has the grounding
                    if not first and '"content":"' in line and '"content":""' not in line:
                        first = time.perf_counter() - started
        assert first
        return first

    @contextmanager
    def other_client(self) -> Iterator[None]:
        """Another client sends requests to /v1/detections, one after the other."""
        ended = threading.Event()
        body = {"input": drawing(1), "queries": list(NOUNS)}

        def send() -> None:
            while not ended.is_set():
                self.client.post(DETECTIONS, json=body).raise_for_status()

        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(WARM_UP_S)
        try:
            yield
        finally:
            ended.set()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=int, default=21)
    options = parser.parse_args()
    comparisons = [
        ("grounding on / off", Chat(ground=True), Chat()),
        ("grounding on / off, new picture", Chat(new=True, ground=True), Chat(new=True)),
        ("on / off, another client's grounding", Chat(False, True, True), Chat(beside=True)),
        ("another client's grounding on / off", Chat(beside=True), Chat()),
    ]
    with httpx.Client(base_url=options.url, timeout=300) as client:
        clock = Clock(client, options.model)
        for name, one, other in comparisons:
            clock.first_token_s(one)  # not measured
            pairs = measure(
                lambda one=one: clock.first_token_s(one),
                lambda other=other: clock.first_token_s(other),
                options.pairs,
            )
            medians = [sorted(times)[len(pairs) // 2] * 1000 for times in zip(*pairs, strict=True)]
            print(f"| {name} | {medians[0]:.0f} | {medians[1]:.0f} | {ratio(pairs)} |", flush=True)


if __name__ == "__main__":
    main()
