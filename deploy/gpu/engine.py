"""Step `engine`: compares conditioned requests with plain vLLM and with the released code's loop.

Plain vLLM runs the same language model without bindserve. The released code answers one request
after the other, in a Python loop.
"""

from dataclasses import replace

import torch

from deploy.gpu.arguments import Arguments
from deploy.gpu.rows import Rows
from model_ext.bench import random_model, throughput
from model_ext.bench.engine import (
    WORKLOADS,
    Device,
    EngineArm,
    EngineResult,
    Workload,
    compare,
    open_arms,
)

# (workload, pairs of measurements, whether vLLM's worker is profiled). The most important runs are
# first.
FULL_RUNS = [
    ("first-token", 31, True),
    ("decode-1", 7, True),
    ("decode-32", 7, True),
    ("churn", 3, False),
    ("decode-256", 5, False),
]
TINY_RUNS = [
    ("first-token", 3, True),
    ("decode-1", 2, False),
    ("decode-32", 2, False),
    ("churn", 2, False),
]
# Tokens of each prompt and each answer in TINY_RUNS, except in "first-token".
SHORT_PROMPT, SHORT_ANSWER = 16, 4
MIN_SPEED = {"decode-1": 0.99, "decode-32": 0.99, "decode-256": 0.99, "churn": 0.985}
MAX_FIRST_TOKEN = 1.10  # time to the first token, divided by plain vLLM's time
LOOP_PAIRS = 3


def main() -> None:
    arguments = Arguments.parse(__doc__)
    shape = random_model.LLAMA_7B if arguments.full else random_model.TINY
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    with open_arms(arguments.work, shape, not arguments.full, device) as (plain, conditioned):
        arguments.wait_until_quiet()
        for name, pairs, profiled in FULL_RUNS if arguments.full else TINY_RUNS:
            workload = workload_of(name, device, arguments.full)
            result = compare(plain, conditioned, workload, pairs, profiled=profiled)
            report(arguments.rows, result, arguments.full)
        if arguments.full:
            with arguments.rows.checking("the released loop runs"):
                report_loop(arguments, conditioned, shape, device)


def workload_of(name: str, device: Device, full: bool) -> Workload:
    workload = WORKLOADS[device][name]
    if full or name == "first-token":
        return workload
    return replace(
        workload,
        prompt=SHORT_PROMPT,
        tokens=SHORT_ANSWER,
        min_tokens=None if workload.min_tokens is None else 1,
    )


def report(rows: Rows, result: EngineResult, full: bool) -> None:
    name, ratio = result.workload.name, result.ratio
    interval = f"[{ratio.low:.3f}, {ratio.high:.3f}], {ratio.pairs} pairs"
    plain = f"(plain vLLM {result.plain_s * 1000:,.4g} ms)"
    if result.of_times:
        goal = MAX_FIRST_TOKEN if full else None
        rows.number(
            f"{name}: time, divided by plain vLLM's",
            ratio.median,
            "",
            at_most=goal,
            detail=interval,
        )
    else:
        goal = MIN_SPEED[name] if full else None
        rows.number(
            f"{name}: speed, divided by plain vLLM's",
            ratio.median,
            "",
            at_least=goal,
            detail=interval,
        )
    rows.number(f"{name}: {result.workload}", result.conditioned_s * 1000, "ms", detail=plain)
    if result.share is not None:
        rows.number(
            f"{name}: bindserve's Python code, share of the worker's time", 100 * result.share, "%"
        )


def report_loop(
    arguments: Arguments, conditioned: EngineArm, shape: random_model.Shape, device: Device
) -> None:
    """Report the throughputs of the engine and of the released code's loop, and their ratio.

    The loop uses the GPU memory that plain vLLM's engine and bindserve's engine leave free.
    """
    tensors = throughput.weights(arguments.work, shape, device)
    result = throughput.compare(conditioned, tensors, LOOP_PAIRS, shape)
    rows = arguments.rows
    rows.number("the released code's loop, one request at a time", result.loop, "tokens/s")
    rows.number(f"engine, {throughput.CLIENTS} clients", result.engine, "tokens/s")
    rows.number(
        "speed of the engine, divided by that of the released code's loop",
        result.speedup.median,
        "times",
    )


if __name__ == "__main__":
    main()
