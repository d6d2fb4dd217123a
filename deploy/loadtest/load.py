"""Load: sends requests in an open loop, at times that do not depend on the answers.

The times are a Poisson process, as with many independent clients. This module does not use HTTP.
The caller passes a function that sends one request, and a `Concurrency` that runs functions
concurrently.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from deploy.loadtest.outcome import Objective, Outcome

# Maximum number of unanswered requests, because with more, the test would measure the client's
# speed.
MAX_IN_FLIGHT = 4000
# After a stage, the test waits for answers for the maximum time of the objective plus this many
# seconds.
GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that the load test sends: its stage, its scenario, and when it is due."""

    stage: str
    scenario: str
    at: float  # when the request is due: a value of `time.perf_counter`


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of one stage of the load test, without hostile requests."""

    offered: float  # Requests/s that were due.
    goodput: float  # Requests/s with a good answer.


class Concurrency(Protocol):
    """Starts functions concurrently: gevent in a load test, threads in the tests."""

    def spawn(self, function: Callable[[], None]) -> None: ...
    def sleep(self, seconds: float) -> None: ...


class Load:
    def __init__(
        self,
        send: Callable[[Arrival], Outcome],
        mix: dict[str, float],
        concurrency: Concurrency,
        *,
        objective: Objective,
        rng: Random,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.stages: dict[str, float] = {}  # seconds of each stage, in the order of the stages
        self.objective = objective
        self.started = time.perf_counter()
        self._send = send
        self._names, self._shares = list(mix), list(mix.values())
        self._concurrency = concurrency
        self._rng = rng
        self._in_flight = 0

    def hold(self, stage: str, rate: float, seconds: float) -> Rates:
        """Send `rate` requests a second for `seconds`, then wait for their answers."""
        self.stages[stage] = seconds
        first = len(self.outcomes)
        start = now = time.perf_counter()
        sent = 0
        while (now := now + self._rng.expovariate(rate)) < start + seconds:
            self._concurrency.sleep(max(0.0, now - time.perf_counter()))
            self._start(Arrival(stage, self._rng.choices(self._names, self._shares)[0], now))
            sent += 1
        self._wait(start + seconds + self.objective.total_s + GRACE_S)
        outcomes = [each for each in self.outcomes[first:] if each.stage == stage]
        return rates_of(outcomes, seconds, self.objective)

    def _start(self, arrival: Arrival) -> None:
        if self._in_flight >= MAX_IN_FLIGHT:
            late = time.perf_counter() - arrival.at
            self.outcomes.append(
                Outcome(
                    arrival.stage,
                    arrival.scenario,
                    arrival.at - self.started,
                    status=0,
                    right=False,
                    first_s=late,
                    total_s=late,
                    error=f"not sent: {MAX_IN_FLIGHT} requests are in flight",
                )
            )
            return
        self._in_flight += 1
        self._concurrency.spawn(lambda: self._send_one(arrival))

    def _send_one(self, arrival: Arrival) -> None:
        try:
            self.outcomes.append(self._send(arrival))
        finally:
            self._in_flight -= 1

    def _wait(self, deadline: float) -> None:
        while self._in_flight and time.perf_counter() < deadline:
            self._concurrency.sleep(0.05)


def rates_of(outcomes: Sequence[Outcome], seconds: float, objective: Objective) -> Rates:
    counted = [each for each in outcomes if each.scenario != "hostile"]
    good = sum(each.good(objective) for each in counted)
    return Rates(len(counted) / seconds, good / seconds)
