"""Which way round the engine benchmarks' ratios are. The engines themselves are tried by hand."""

import subprocess
import sys
import time
from typing import Any, cast

import pytest

from model_ext.bench.engine import LOADS, Engine, Load, Spent, compare, cpu_seconds
from model_ext.bench.throughput import CLIENTS, LOAD, outcome


class Fake:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.seeds: list[int] = []

    def run(self, _: Load, seed: int) -> Spent:
        self.seeds.append(seed)
        return Spent(self.seconds, cpu=self.seconds**2)

    def profile(self, _: Load, **__: int) -> float:
        return 0.005


def fake(seconds: float) -> Any:
    return cast(Engine, Fake(seconds))


@pytest.mark.parametrize(
    ("name", "ratio"), [("decode-1", 0.5), ("decode-32", 0.5), ("first-token", 2.0)]
)
def test_twice_the_time(name: str, ratio: float) -> None:
    plain, ours = fake(1.0), fake(2.0)
    found = compare(plain, ours, LOADS[name], pairs=3)
    assert (found.ratio.median, found.ratio.pairs) == (ratio, 3)
    assert found.cpu.median == ratio**2
    assert "0.50%" in str(found)
    assert plain.seeds == ours.seeds == [0, 1, 2, 3]  # equal prompts, new ones at each run


def test_cpu_seconds_are_those_of_the_group() -> None:
    spins = "import time\nwhile time.process_time() < 0.2: pass\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", spins], stdin=subprocess.PIPE, start_new_session=True
    )
    before = cpu_seconds(process.pid)
    while cpu_seconds(process.pid) < 0.2:
        time.sleep(0.01)
    assert before < 0.2
    process.communicate(b"\n")
    assert cpu_seconds(process.pid) == 0  # nobody is left


def test_a_share_of_the_limit() -> None:
    """Clients take turns of 2 s, or 8 s all together; products alone gain a factor of 16."""
    found = outcome(fair=cast(Any, None), triples=[((2.0, 16.0), 8.0)] * 3)
    assert found.speedup.median == CLIENTS * 2 / 8
    assert found.share.median == found.speedup.median / 16
    assert found.loop == LOAD.tokens / 2
    assert found.engine == CLIENTS * LOAD.tokens / 8
