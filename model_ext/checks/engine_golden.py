"""Compute, with vLLM's engine, the answers to the prompts in a model's golden.json (a file of
recorded answers).

`answer` runs this file as a module in a separate process, because an engine does not release all of
its threads and memory. The process prints its answers as one line of JSON.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ext.checks.golden import TOP, Answer, Golden, Step, embedding
from model_ext.conditioning import EXTRA_ARG, cache_salt, pack

EXTRA_TOKENS = 64  # the engine's maximum length minus the length of the longest prompt


class EngineError(RuntimeError):
    """Raised when the engine fails. The message is the engine's error."""


@dataclass(frozen=True, slots=True)
class Answered:
    dtype: str  # the dtype in which the engine computed
    answers: list[tuple[Step, ...]]


def answer(folder: Path, options: dict[str, Any]) -> Answered:
    """Compute the answers to all prompts of the folder's golden.json.

    `options` are arguments of vLLM's engine, e.g. `dtype`.
    Raises EngineError: when the engine fails.
    """
    command = [sys.executable, "-m", __name__, str(folder), json.dumps(options)]
    process = subprocess.run(command, capture_output=True, text=True)
    if not process.stdout:
        raise EngineError(f"the engine's process ended with status {process.returncode}")
    result = json.loads(process.stdout)
    if "error" in result:
        raise EngineError(result["error"])
    answers = [tuple(Step(**step) for step in steps) for steps in result["answers"]]
    return Answered(result["dtype"], answers)


def main(folder: str, options: str) -> None:
    """Write one line of JSON to standard output.

    vLLM also prints to standard output, so file descriptor 1 is redirected to standard error first.
    """
    line = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        result = run(Path(folder), json.loads(options))
    except Exception as error:
        result = {"error": " ".join(str(error).split())[:500]}
    print(json.dumps(result), file=line, flush=True)


def run(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Start an engine and return the fields of `Answered`."""
    gc.disable()  # Garbage collection would take a quarter of the time of the imports.
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    from model_ext.engine.adapter import adapt

    gc.enable()
    golden = Golden.read(folder)
    flags = {
        "model": str(folder),
        "enforce_eager": True,
        "max_model_len": max(len(answer.ids) for answer in golden.answers) + EXTRA_TOKENS,
        "max_num_seqs": len(golden.answers),
        "skip_tokenizer_init": True,
        **options,
    }
    config = EngineArgs(**flags).create_engine_config()
    adapt(config)
    llm = LLM(**flags, worker_cls=config.parallel_config.worker_cls, use_tqdm_on_load=False)
    requests = [request(folder, i, answer) for i, answer in enumerate(golden.answers)]
    outputs = llm.generate(*zip(*requests, strict=True), use_tqdm=False)
    dtype = str(config.model_config.dtype).removeprefix("torch.")
    return {"dtype": dtype, "answers": [steps(output.outputs[0]) for output in outputs]}


def request(folder: Path, number: int, answer: Answer) -> tuple[dict[str, Any], Any]:
    from vllm import SamplingParams

    packed = pack(embedding(folder, number).numpy())
    params = SamplingParams(
        temperature=0,
        max_tokens=len(answer.steps),
        logprobs=TOP,
        ignore_eos=True,
        detokenize=False,
        extra_args={EXTRA_ARG: packed},
    )
    return {"prompt_token_ids": list(answer.ids), "cache_salt": cache_salt(packed)}, params


def steps(completion: Any) -> list[dict[str, Any]]:
    """Convert a vLLM CompletionOutput to the fields of one `Step` per generated token."""
    return [
        {"top": step(token, {other: entry.logprob for other, entry in candidates.items()})}
        for token, candidates in zip(completion.token_ids, completion.logprobs, strict=True)
    ]


def step(token: int, logprobs: dict[int, float]) -> list[tuple[int, float]]:
    """Return the generated token, then the other candidates in order of log-probability."""
    rest: Sequence[int] = sorted(logprobs.keys() - {token}, key=lambda other: -logprobs[other])
    return [(each, logprobs[each]) for each in (token, *rest)]


if __name__ == "__main__":
    main(*sys.argv[1:])
