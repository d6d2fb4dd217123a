"""The load test keeps its rate if answers are slow, finds the peak rate and exceeds it."""

import threading
import time
from collections.abc import Callable
from random import Random

import pytest

from deploy.loadtest.load import Arrival, Load, Rates
from deploy.loadtest.outcome import Objective, Outcome
from deploy.loadtest.profiles import PROFILES, climb


class Threads:
    def spawn(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function).start()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def answer_after(seconds: float, status: int = 200) -> Callable[[Arrival], Outcome]:
    def send(arrival: Arrival) -> Outcome:
        time.sleep(seconds)
        total = time.perf_counter() - arrival.at
        right = status == 200
        return Outcome(arrival.stage, arrival.scenario, arrival.at, status, right, total, total)

    return send


def load(send: Callable[[Arrival], Outcome], objective: Objective, **mix: float) -> Load:
    return Load(send, mix or {"text": 1}, Threads(), objective=objective, rng=Random(0))


def test_slow_answers_do_not_slow_the_requests() -> None:
    subject = load(answer_after(0.3), Objective(0.2, 0.2))
    rates = subject.hold("slow", 100, 1)
    # a client that waits for each answer would send only three requests
    assert 70 < rates.offered < 130
    assert rates.goodput == 0  # every answer is right, but late


def test_an_answer_within_the_objective_is_good() -> None:
    rates = load(answer_after(0.05), Objective(1, 1)).hold("quick", 50, 1)
    assert rates.goodput == rates.offered > 30


def test_a_rejected_request_is_neither_good_nor_failed() -> None:
    subject = load(answer_after(0, status=503), Objective(1, 1))
    assert subject.hold("full", 50, 0.5).goodput == 0
    assert all(outcome.rejected and not outcome.failed for outcome in subject.outcomes)


def test_hostile_requests_do_not_count() -> None:
    subject = load(answer_after(0), Objective(1, 1), hostile=1)
    rates = subject.hold("hostile", 50, 0.5)
    assert subject.outcomes
    assert rates == Rates(0, 0)


def test_requests_beyond_the_bound_in_flight_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.loadtest.load.MAX_IN_FLIGHT", 2)
    subject = load(answer_after(0.5), Objective(1, 1))
    subject.hold("many", 50, 0.5)
    assert sum(outcome.error != "" for outcome in subject.outcomes) > 10
    assert sum(outcome.right for outcome in subject.outcomes) < 10


class Server:
    """A fake server that answers at most `capacity` requests a second correctly."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.stages: list[tuple[str, float]] = []

    def hold(self, stage: str, rate: float, seconds: float) -> Rates:  # noqa: ARG002
        self.stages.append((stage, rate))
        return Rates(rate, min(rate, self.capacity))


def test_the_climb_ends_beyond_the_peak() -> None:
    server = Server(10)
    assert climb(server, 2, 1) == 10
    rates = [rate for _, rate in server.stages]
    assert rates == sorted(rates)
    assert rates[-1] > rates[-2] > 10 / 0.75 > rates[-3]


def test_a_disturbed_stage_does_not_end_the_climb() -> None:
    """Regression: the load test stopped increasing the rate after one stage was slow by chance."""

    class Disturbed(Server):
        def hold(self, stage: str, rate: float, seconds: float) -> Rates:
            rates = super().hold(stage, rate, seconds)
            return Rates(rate, rate / 2) if len(self.stages) == 2 else rates

    assert climb(Disturbed(10), 2, 1) == 10


def test_overload_is_three_times_the_peak() -> None:
    server = Server(10)
    PROFILES["overload"](server, 2, 20)
    assert server.stages[-2:] == [("3x overload", 30), ("after it", 5)]


def test_a_ramp_ends_at_its_rate() -> None:
    server = Server(10)
    PROFILES["ramp"](server, 20, 20)
    assert [rate for _, rate in server.stages] == [2.0 * k for k in range(1, 11)]
