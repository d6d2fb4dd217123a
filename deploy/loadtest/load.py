"""Load: an open loop. Requests leave when they are due, however slow the answers are.

Arrivals are a Poisson process, as those of many independent people. It does not know HTTP: it is
given a function that sends one request, and the means to run many of them at a time.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from deploy.loadtest.outcome import Objective, Outcome

MOST = 4000  # in flight; beyond, the client and not the server would be tested
GRACE_S = 3.0  # after the objective, for answers that are late anyway


@dataclass(frozen=True, slots=True)
class Due:
    """One request that is to be sent."""

    stage: str
    scenario: str
    at: float  # on the clock of `time.perf_counter`


@dataclass(frozen=True, slots=True)
class Held:
    """What a stage came to; all rates per second. Hostile requests are not in it."""

    offered: float
    goodput: float


class Concurrency(Protocol):
    """gevent, in a test run."""

    def spawn(self, function: Callable[[], None]) -> None: ...
    def sleep(self, seconds: float) -> None: ...


class Load:
    def __init__(
        self,
        send: Callable[[Due], Outcome],
        mix: dict[str, float],
        concurrency: Concurrency,
        *,
        objective: Objective,
        rng: Random,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.stages: dict[str, float] = {}  # seconds of each, in order
        self.objective = objective
        self.started = time.perf_counter()
        self._send = send
        self._names, self._shares = list(mix), list(mix.values())
        self._concurrency = concurrency
        self._rng = rng
        self._in_flight = 0

    def hold(self, stage: str, rate: float, seconds: float) -> Held:
        """Offer `rate` requests a second for so long, then wait for their answers."""
        self.stages[stage] = seconds
        first = len(self.outcomes)
        start = now = time.perf_counter()
        sent = 0
        while (now := now + self._rng.expovariate(rate)) < start + seconds:
            self._concurrency.sleep(max(0.0, now - time.perf_counter()))
            self._start(Due(stage, self._rng.choices(self._names, self._shares)[0], now))
            sent += 1
        self._wait(start + seconds + self.objective.total_s + GRACE_S)
        mine = [each for each in self.outcomes[first:] if each.stage == stage]
        return held(mine, seconds, self.objective)

    def _start(self, due: Due) -> None:
        if self._in_flight >= MOST:
            late = time.perf_counter() - due.at
            self.outcomes.append(
                Outcome(
                    *(due.stage, due.scenario, due.at - self.started, 0, False, late, late),
                    error="not sent: too many in flight",
                )
            )
            return
        self._in_flight += 1
        self._concurrency.spawn(lambda: self._one(due))

    def _one(self, due: Due) -> None:
        try:
            self.outcomes.append(self._send(due))
        finally:
            self._in_flight -= 1

    def _wait(self, until: float) -> None:
        while self._in_flight and time.perf_counter() < until:
            self._concurrency.sleep(0.05)


def held(outcomes: Sequence[Outcome], seconds: float, objective: Objective) -> Held:
    counted = [each for each in outcomes if each.scenario != "hostile"]
    good = sum(each.good(objective) for each in counted)
    return Held(len(counted) / seconds, good / seconds)
