"""Send the requests of the load test with threads and httpx instead of locust, for short tests."""

import threading
import time
from collections.abc import Callable
from random import Random

import httpx

from deploy.loadtest.load import Arrival, Load
from deploy.loadtest.media import Media
from deploy.loadtest.outcome import Objective, Outcome
from deploy.loadtest.scenarios import MIXES, SCENARIOS, RequestFactory


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
    """Send `rate` requests a second, without waiting for answers. Returns all outcomes."""
    with httpx.Client(
        base_url=url,
        timeout=60,
        limits=httpx.Limits(max_connections=256),
        headers={"authorization": f"Bearer {key}"},
    ) as client:
        factory = RequestFactory(Media.make(0), Random(0), model, [upload(client)])
        lock = threading.Lock()

        def send(arrival: Arrival) -> Outcome:
            with lock:
                request = SCENARIOS[arrival.scenario](factory)
            disconnects = request.disconnect_after_s is not None
            timeout = request.disconnect_after_s if disconnects else 60
            try:
                answer = client.post(
                    request.path,
                    content=request.body,
                    headers={"content-type": request.content_type},
                    timeout=timeout,
                )
                status = answer.status_code
            except httpx.TimeoutException:
                status = 0
            right = status in request.expected or disconnects
            seconds = time.perf_counter() - arrival.at
            return Outcome(
                *(arrival.stage, arrival.scenario, arrival.at, status, right, seconds, seconds)
            )

        load = Load(send, mix, Threads(), objective=Objective(10, 30), rng=Random(0))
        load.hold("steady", rate, seconds)
        return load.outcomes


def upload(client: httpx.Client) -> str:
    """Upload a picture to /v1/files. Returns its id."""
    picture = Media.make(1).files["image"][0]
    answer = client.post(
        "/v1/files", data={"purpose": "user_data"}, files={"file": ("picture.jpg", picture)}
    )
    identifier: str = answer.raise_for_status().json()["id"]
    return identifier
