"""Profiles: how the rate goes over time. Each is a plain program that holds one rate after another.

`rate` is the profile's own measure, in requests a second; `seconds` the length of its main stage.
"""

from collections.abc import Callable
from typing import Protocol

from deploy.loadtest.load import Held

STEP = 1.4  # each rate of a climb to the one before
ENOUGH = 0.75  # of a rate's requests must be good for the climb to go on
OVERLOAD = 3


class Hold(Protocol):
    """What a profile needs of `Load`."""

    def hold(self, stage: str, rate: float, seconds: float) -> Held: ...


def steady(load: Hold, rate: float, seconds: float) -> None:
    load.hold("steady", rate, seconds)


def ramp(load: Hold, rate: float, seconds: float) -> None:
    """From a tenth of the rate to all of it, in ten steps."""
    for tenth in range(1, 11):
        load.hold(f"{rate * tenth / 10:.3g}/s", rate * tenth / 10, seconds / 10)


def overload(load: Hold, rate: float, seconds: float) -> None:
    """Climb from `rate` to the best goodput, offer three times that, then half of it."""
    best = climb(load, rate, max(5.0, seconds / 4))
    load.hold(f"{OVERLOAD}x overload", OVERLOAD * best, seconds)
    load.hold("after it", best / 2, max(5.0, seconds / 4))


def soak(load: Hold, rate: float, seconds: float) -> None:
    """The same for long, to see what grows. The first tenth warms up."""
    load.hold("warm-up", rate, seconds / 10)
    load.hold("soak", rate, seconds * 9 / 10)


def climb(load: Hold, rate: float, seconds: float) -> float:
    """Raise the rate until too many requests are no longer good. The best goodput seen.

    Twice in a row: one short stage may have met a moment's disturbance, far below the peak.
    """
    best, bad = 0.1, 0
    while bad < 2:
        held = load.hold(f"{rate:.3g}/s", rate, seconds)
        best = max(best, held.goodput)
        bad = bad + 1 if held.goodput < ENOUGH * held.offered else 0
        rate *= STEP
    return best


Profile = Callable[[Hold, float, float], None]
PROFILES: dict[str, Profile] = {each.__name__: each for each in (steady, ramp, overload, soak)}
