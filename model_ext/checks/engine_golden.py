"""The recorded answers once more, through vLLM as it serves them.

In a process of its own, because an engine leaves threads and memory behind: `answer` starts it and
reads one line of JSON; run as a module, this file is that process.
"""

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

ROOM = 64  # tokens beyond the longest prompt


class EngineError(RuntimeError):
    """The engine did not answer; the message is its last word."""


@dataclass(frozen=True, slots=True)
class Answered:
    dtype: str  # that the engine computed in
    answers: list[tuple[Step, ...]]


def answer(folder: Path, options: dict[str, Any]) -> Answered:
    """All prompts of the folder's golden.json. `options` are vLLM's, such as its dtype."""
    command = [sys.executable, "-m", __name__, str(folder), json.dumps(options)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if not ended.stdout:
        raise EngineError(f"the engine's process ended with {ended.returncode}")
    found = json.loads(ended.stdout)
    if "error" in found:
        raise EngineError(found["error"])
    answers = [tuple(Step(**step) for step in steps) for steps in found["answers"]]
    return Answered(found["dtype"], answers)


def main(folder: str, options: str) -> None:
    """One line of JSON on standard output, which vLLM, that prints there too, does not get."""
    line = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        found = run(Path(folder), json.loads(options))
    except Exception as error:
        found = {"error": " ".join(str(error).split())[:500]}
    print(json.dumps(found), file=line, flush=True)


def run(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    from model_ext.engine.adapter import adapt

    golden = Golden.read(folder)
    flags = {
        "model": str(folder),
        "enforce_eager": True,
        "max_model_len": max(len(answer.ids) for answer in golden.answers) + ROOM,
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
    """Of vLLM's CompletionOutput, as `Step` has them."""
    return [
        {"top": step(token, {other: known.logprob for other, known in candidates.items()})}
        for token, candidates in zip(completion.token_ids, completion.logprobs, strict=True)
    ]


def step(token: int, logprobs: dict[int, float]) -> list[tuple[int, float]]:
    """The chosen token first, whatever a tie's order."""
    rest: Sequence[int] = sorted(logprobs.keys() - {token}, key=lambda other: -logprobs[other])
    return [(each, logprobs[each]) for each in (token, *rest)]


if __name__ == "__main__":
    main(*sys.argv[1:])
