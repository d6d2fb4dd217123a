"""What share of a worker's CPU time is our Python code, by cProfile inside the worker.

The clock is that of the worker's main thread, so that other work on the machine does not count.
Profiling itself makes Python slower: a share is rather too large than too small. The model's
forward pass is not ours here, since it is LLaMA's: what the added rows cost in it, the ratio of the
two arms tells. vLLM mixes `Profiled` into its worker (`worker_extension_cls`).
"""

import cProfile
import pstats
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Function = tuple[str, int, str]  # file, line, name
Edges = dict[Function, tuple[int, int, float, float]]  # by caller: calls, calls, own, cumulative
Stats = dict[Function, tuple[int, int, float, float, Edges]]

PACKAGE = Path(__file__).parents[1]
OURS = (str(PACKAGE / "engine"), str(PACKAGE / "inject.py"), str(PACKAGE / "conditioning.py"))
VLLM = str(Path(str(getattr(find_spec("vllm"), "origin", "vllm/"))).parent)
# Our adapters extend these: what they call under the same name is the host's.
HOSTS = {"_update_states", "_preprocess", "add_request", "prepare_inputs"}
STEPS = {"execute_model", "sample_tokens"}  # of the worker


class Profiled:
    """Methods for `collective_rpc`, whose results must be plain."""

    _profile: cProfile.Profile

    def profile_start(self) -> None:
        self._profile = cProfile.Profile(time.thread_time)
        self._profile.enable()

    def profile_stop(self) -> dict[str, float]:
        """CPU seconds: `ours` of `steps`, the worker's work for the scheduler."""
        self._profile.disable()
        stats: Any = pstats.Stats(self._profile)
        return {"ours": ours(stats.stats), "steps": steps(stats.stats)}


def ours(stats: Stats) -> float:
    """The time from each call of vLLM's into our code until it returns, without vLLM's part of it.

    Of vLLM's only: what we call through another library, a decorator of torch's for instance, is
    within such a call already.
    """
    found = 0.0
    for function, (_, _, _, _, callers) in stats.items():
        for caller, (_, _, _, cumulative) in callers.items():
            if is_ours(function) and caller[0].startswith(VLLM):
                found += cumulative
            elif is_ours(caller) and not is_ours(function) and function[2] in HOSTS:
                found -= cumulative
    return found


def steps(stats: Stats) -> float:
    return sum(
        cumulative
        for (file, _, name), (_, _, _, cumulative, _) in stats.items()
        if name in STEPS and Path(file).name == "gpu_worker.py"
    )


def is_ours(function: Function) -> bool:
    file, _, name = function
    return file.startswith(OURS) and name != "forward"
