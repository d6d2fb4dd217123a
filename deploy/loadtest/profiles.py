"""Profiles: functions that send requests in stages, each with its own rate.

`rate` is in requests per second, and each profile defines how it uses it.

`seconds` is the length of the main stage.
"""

from collections.abc import Callable
from typing import Protocol

from deploy.loadtest.load import Rates

STEP = 1.4  # Factor by which each stage of a climb raises the rate.
MIN_GOOD = 0.75  # Minimum share of good answers for the climb to continue.
OVERLOAD = 3  # Rate of the overload stage, divided by the best goodput.


class Hold(Protocol):
    """The method of `Load` that profiles use."""

    def hold(self, stage: str, rate: float, seconds: float) -> Rates: ...


def steady(load: Hold, rate: float, seconds: float) -> None:
    """Send requests at `rate` for `seconds`."""
    load.hold("steady", rate, seconds)


def ramp(load: Hold, rate: float, seconds: float) -> None:
    """Raise the rate from a tenth of `rate` to `rate`, in ten equal steps."""
    for tenth in range(1, 11):
        load.hold(f"{rate * tenth / 10:.3g}/s", rate * tenth / 10, seconds / 10)


def overload(load: Hold, rate: float, seconds: float) -> None:
    """Find the best goodput with `climb`.

    Then send OVERLOAD times the best goodput, and after that half of the best goodput.
    """
    best = climb(load, rate, max(5.0, seconds / 4))
    load.hold(f"{OVERLOAD}x overload", OVERLOAD * best, seconds)
    load.hold("after it", best / 2, max(5.0, seconds / 4))


def soak(load: Hold, rate: float, seconds: float) -> None:
    """Warm up, and then send requests at `rate` for a long time, to detect growing memory."""
    load.hold("warm-up", rate, seconds / 10)
    load.hold("soak", rate, seconds * 9 / 10)


def climb(load: Hold, rate: float, seconds: float) -> float:
    """Raise the rate until too few answers are good in two successive stages.

    One bad stage is not enough, because another program may have slowed the machine.
    Returns the best goodput, which is the number of good answers per second.
    """
    best, bad = 0.1, 0
    while bad < 2:
        rates = load.hold(f"{rate:.3g}/s", rate, seconds)
        best = max(best, rates.goodput)
        bad = bad + 1 if rates.goodput < MIN_GOOD * rates.offered else 0
        rate *= STEP
    return best


Profile = Callable[[Hold, float, float], None]
PROFILES: dict[str, Profile] = {each.__name__: each for each in (steady, ramp, overload, soak)}
