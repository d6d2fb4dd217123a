"""Offer a server the load test's requests without locust: threads and httpx, for seconds."""

import threading
import time
from collections.abc import Callable
from random import Random

import httpx

from deploy.loadtest.load import Due, Load
from deploy.loadtest.media import Media
from deploy.loadtest.outcome import Objective, Outcome
from deploy.loadtest.scenarios import MIXES, SCENARIOS, Workshop


class Threads:
    def spawn(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function).start()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def offer(
    url: str,
    rate: float,
    seconds: float,
    *,
    model: str,
    mix: dict[str, float] = MIXES["all"],
    key: str = "none",
) -> list[Outcome]:
    """In an open loop."""
    with httpx.Client(
        base_url=url,
        timeout=60,
        limits=httpx.Limits(max_connections=256),
        headers={"authorization": f"Bearer {key}"},
    ) as client:
        shop = Workshop(Media.make(0), Random(0), model, [upload(client)])
        making = threading.Lock()

        def send(due: Due) -> Outcome:
            with making:
                ask = SCENARIOS[due.scenario](shop)
            timeout = ask.leaves_after if ask.leaves_after is not None else 60
            try:
                answer = client.post(
                    ask.path,
                    content=ask.body,
                    headers={"content-type": ask.content_type},
                    timeout=timeout,
                )
                status = answer.status_code
            except httpx.TimeoutException:
                status = 0
            right = status in ask.expected or ask.leaves_after is not None
            took = time.perf_counter() - due.at
            return Outcome(due.stage, due.scenario, due.at, status, right, took, took)

        load = Load(send, mix, Threads(), objective=Objective(10, 30), rng=Random(0))
        load.hold("steady", rate, seconds)
        return load.outcomes


def upload(client: httpx.Client) -> str:
    picture = Media.make(1).files["image"][0]
    answer = client.post(
        "/v1/files", data={"purpose": "user_data"}, files={"file": ("picture.jpg", picture)}
    )
    identifier: str = answer.raise_for_status().json()["id"]
    return identifier
