"""Measure the share of this project's Python code (the plugin) in the CPU time of a vLLM worker,
with cProfile. The profiler reads the CPU clock of the worker's main thread, so other programs do
not count. Profiling makes Python slower, so the share is an upper bound. The model's forward pass
is not included, because most of it is LLaMA's. engine.py measures its cost by comparison with plain
vLLM. vLLM adds `Profiled` to its worker class (`worker_extension_cls`).
"""

import cProfile
import pstats
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Function = tuple[str, int, str]  # File, line and name.
# Caller -> cProfile's entry: two counts of calls, seconds in the function itself, seconds including
# the functions that it calls.
Edges = dict[Function, tuple[int, int, float, float]]
Stats = dict[Function, tuple[int, int, float, float, Edges]]

PACKAGE = Path(__file__).parents[1]
PLUGIN = (str(PACKAGE / "engine"), str(PACKAGE / "inject.py"), str(PACKAGE / "conditioning.py"))
VLLM = str(Path(str(getattr(find_spec("vllm"), "origin", "vllm/"))).parent)
# The plugin overrides these methods of vLLM, and calls the overridden methods.
HOSTS = {"_update_states", "_preprocess", "add_request", "prepare_inputs"}
STEPS = {"execute_model", "sample_tokens"}  # the worker's methods that execute a step


class Profiled:
    """Methods that vLLM's `collective_rpc` calls in the worker. They return only plain Python
    values.
    """

    _profile: cProfile.Profile

    def profile_start(self) -> None:
        self._profile = cProfile.Profile(time.thread_time)
        self._profile.enable()

    def profile_stop(self) -> dict[str, float]:
        """Return CPU seconds: `steps` for all of the worker's steps, `plugin` for the plugin's
        code.
        """
        self._profile.disable()
        stats: Any = pstats.Stats(self._profile)
        return {"plugin": plugin(stats.stats), "steps": steps(stats.stats)}


def plugin(stats: Stats) -> float:
    """Sum the time of vLLM's calls of the plugin, without the vLLM code that the plugin calls. Does
    not add calls by other libraries, such as a torch decorator, because they happen during a call
    by vLLM, whose time is already in the sum.
    """
    total = 0.0
    for function, (_, _, _, _, callers) in stats.items():
        for caller, (_, _, _, cumulative) in callers.items():
            if in_plugin(function) and caller[0].startswith(VLLM):
                total += cumulative
            elif in_plugin(caller) and not in_plugin(function) and function[2] in HOSTS:
                total -= cumulative
    return total


def steps(stats: Stats) -> float:
    return sum(
        cumulative
        for (file, _, name), (_, _, _, cumulative, _) in stats.items()
        if name in STEPS and Path(file).name == "gpu_worker.py"
    )


def in_plugin(function: Function) -> bool:
    file, _, name = function
    return file.startswith(PLUGIN) and name != "forward"
