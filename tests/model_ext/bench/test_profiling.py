"""The profile counts the time in the plugin, without vLLM's functions that the plugin calls."""

from model_ext.bench.profiling import PLUGIN, VLLM, plugin, steps

ADAPTER = (f"{PLUGIN[0]}/runner_v1.py", 1, "_update_states")
TABLE = (f"{PLUGIN[0]}/slots.py", 1, "flush")
FORWARD = (f"{PLUGIN[0]}/model.py", 1, "forward")
RUNNER = (f"{VLLM}/gpu_model_runner.py", 1, "execute_model")
UPDATE = (f"{VLLM}/gpu_model_runner.py", 2, "_update_states")
WORKER = (f"{VLLM}/gpu_worker.py", 1, "execute_model")
WORKER_SAMPLES = (f"{VLLM}/gpu_worker.py", 2, "sample_tokens")
DELTAS = (f"{PLUGIN[0]}/model.py", 2, "deltas")
DECORATED = ("/torch/utils/_contextlib.py", 1, "decorate_context")  # a decorator of `deltas`
TORCH = ("/torch/functional.py", 1, "linear")


def entry(cumulative: float, callers: dict) -> tuple:  # type: ignore[type-arg]
    edges = {caller: (1, 1, 0.0, seconds) for caller, seconds in callers.items()}
    return (1, 1, 0.0, cumulative, edges)


STATS = {
    WORKER: entry(10.0, {}),
    WORKER_SAMPLES: entry(2.0, {}),
    RUNNER: entry(9.5, {WORKER: 9.5}),
    ADAPTER: entry(1.0, {RUNNER: 1.0}),
    UPDATE: entry(0.6, {ADAPTER: 0.6}),  # A method of vLLM is not plugin time.
    TABLE: entry(0.3, {ADAPTER: 0.3}),  # Plugin time that ADAPTER already contains.
    DECORATED: entry(9.7, {TABLE: 0.25, WORKER: 9.45}),
    DELTAS: entry(0.25, {DECORATED: 0.25}),  # Plugin time that TABLE already contains.
    TORCH: entry(2.0, {TABLE: 0.2, FORWARD: 1.8}),
    FORWARD: entry(5.0, {RUNNER: 5.0}),  # The model's forward pass does not count as plugin time.
}


def test_the_hosts_part_is_not_ours() -> None:
    assert abs(plugin(STATS) - 0.4) < 1e-12


def test_all_of_the_worker_is_counted_once() -> None:
    assert steps(STATS) == 12.0
