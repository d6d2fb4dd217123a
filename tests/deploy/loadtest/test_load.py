"""The open loop keeps its rate whatever the server does; the profiles find and exceed its peak."""

import threading
import time
from collections.abc import Callable
from random import Random

import pytest

from deploy.loadtest.load import Due, Held, Load
from deploy.loadtest.outcome import Objective, Outcome
from deploy.loadtest.profiles import PROFILES, climb


class Threads:
    def spawn(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function).start()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def answer_after(seconds: float, status: int = 200) -> Callable[[Due], Outcome]:
    def send(due: Due) -> Outcome:
        time.sleep(seconds)
        total = time.perf_counter() - due.at
        return Outcome(due.stage, due.scenario, due.at, status, status == 200, total, total)

    return send


def load(send: Callable[[Due], Outcome], objective: Objective, **mix: float) -> Load:
    return Load(send, mix or {"text": 1}, Threads(), objective=objective, rng=Random(0))


def test_slow_answers_do_not_slow_the_requests() -> None:
    subject = load(answer_after(0.3), Objective(0.2, 0.2))
    held = subject.hold("slow", 100, 1)
    assert 70 < held.offered < 130  # a closed loop of one would send three
    assert held.goodput == 0  # all right, all late


def test_what_waits_for_its_answer_is_good_when_it_comes_in_time() -> None:
    held = load(answer_after(0.05), Objective(1, 1)).hold("quick", 50, 1)
    assert held.goodput == held.offered > 30


def test_refused_is_neither_good_nor_failed() -> None:
    subject = load(answer_after(0, status=503), Objective(1, 1))
    assert subject.hold("full", 50, 0.5).goodput == 0
    assert all(outcome.shed and not outcome.failed for outcome in subject.outcomes)


def test_hostile_requests_do_not_count() -> None:
    subject = load(answer_after(0), Objective(1, 1), hostile=1)
    held = subject.hold("hostile", 50, 0.5)
    assert subject.outcomes
    assert held == Held(0, 0)


def test_a_client_that_cannot_follow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.loadtest.load.MOST", 2)
    subject = load(answer_after(0.5), Objective(1, 1))
    subject.hold("many", 50, 0.5)
    assert sum(outcome.error != "" for outcome in subject.outcomes) > 10
    assert sum(outcome.right for outcome in subject.outcomes) < 10


class Server:
    """Gives at most `capacity` good answers a second; beyond, a share of it."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.held: list[tuple[str, float]] = []

    def hold(self, stage: str, rate: float, seconds: float) -> Held:  # noqa: ARG002
        self.held.append((stage, rate))
        return Held(rate, min(rate, self.capacity))


def test_the_climb_ends_beyond_the_peak() -> None:
    server = Server(10)
    assert climb(server, 2, 1) == 10
    rates = [rate for _, rate in server.held]
    assert rates == sorted(rates)
    assert rates[-1] > rates[-2] > 10 / 0.75 > rates[-3]


def test_a_disturbed_stage_does_not_end_the_climb() -> None:
    """It did: on a busy machine one slow stage of five seconds was taken for the peak."""

    class Disturbed(Server):
        def hold(self, stage: str, rate: float, seconds: float) -> Held:
            held = super().hold(stage, rate, seconds)
            return Held(rate, rate / 2) if len(self.held) == 2 else held

    assert climb(Disturbed(10), 2, 1) == 10


def test_overload_is_three_times_the_peak() -> None:
    server = Server(10)
    PROFILES["overload"](server, 2, 20)
    assert server.held[-2:] == [("3x overload", 30), ("after it", 5)]


def test_a_ramp_ends_at_its_rate() -> None:
    server = Server(10)
    PROFILES["ramp"](server, 20, 20)
    assert [rate for _, rate in server.held] == [2.0 * k for k in range(1, 11)]
