"""Run several models through vLLM in one process, one engine after the other, without a server.

Importing vLLM costs each process of a server about 10 s of CPU time. A test that needs no HTTP
starts its engines here, so that all of them share one import.

    answers = generate({"name": Job(model, [Prompt(ids, embedding)])})
"""

import gc
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 512


@dataclass(frozen=True)
class Prompt:
    ids: list[int]
    embedding: list[float]  # Embedding (D,), passed to the engine unchanged.
    steps: int = 1  # Number of tokens to generate greedily.
    prompt_logprobs: bool = False  # Whether to return log-probabilities of the prompt.


@dataclass(frozen=True)
class Answer:
    ids: list[int]
    logprobs: list[float]  # Log-probabilities of the generated tokens.
    prompt_logprobs: np.ndarray | None  # Log-probabilities of the prompt (prompt tokens - 1, V).


@dataclass(frozen=True)
class Job:
    model: Path  # The model's folder.
    prompts: list[Prompt]  # The engine answers all prompts in one batch.
    options: dict[str, Any] = field(default_factory=dict)  # More arguments for vLLM's engine.


def generate(jobs: dict[str, Job], timeout_s: float = 500) -> dict[str, list[Answer]]:
    """Return the answers of each job by the job's name."""
    request = {name: {**asdict(job), "model": str(job.model)} for name, job in jobs.items()}
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine and its worker run in this process
    }
    process = subprocess.run(
        [sys.executable, "-m", "tests.serving.offline"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment,
    )
    assert process.returncode == 0, process.stderr[-8000:]
    return {
        name: [
            Answer(
                answer["ids"],
                answer["logprobs"],
                np.array(answer["prompt_logprobs"]) if answer["prompt_logprobs"] else None,
            )
            for answer in answers
        ]
        for name, answers in json.loads(process.stdout).items()
    }


def main() -> None:
    """Read jobs from standard input, write answers to standard output as one line of JSON."""
    gc.disable()  # garbage collections would take a quarter of the time of vLLM's imports
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM also prints to standard output
    jobs: dict[str, dict[str, Any]] = json.loads(sys.stdin.read())
    answers = {
        name: run(job["model"], [Prompt(**each) for each in job["prompts"]], job["options"])
        for name, job in jobs.items()
    }
    print(json.dumps(answers), file=output, flush=True)


def run(model: str, prompts: list[Prompt], more: dict[str, Any]) -> list[dict[str, Any]]:
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.engine.arg_utils import EngineArgs

    from model_ext.engine.adapter import adapt

    options = {
        **{"model": model, "enforce_eager": True, "dtype": "float32", "block_size": 32},
        **{"max_model_len": 512, "max_logprobs": VOCABULARY, "kv_cache_memory_bytes": 1 << 26},
        **{"skip_tokenizer_init": True, "max_num_seqs": max(2, len(prompts))},
        **more,
    }
    bind_cores(options.get("tensor_parallel_size", 1) * options.get("pipeline_parallel_size", 1))
    config = EngineArgs(**options).create_engine_config()
    adapt(config)
    llm = LLM(**options, worker_cls=config.parallel_config.worker_cls, use_tqdm_on_load=False)
    inputs, params = zip(*map(request, prompts), strict=True)
    answers = [answer(output) for output in llm.generate(inputs, params, use_tqdm=False)]
    llm.llm_engine.engine_core.shutdown()
    del llm
    cleanup_dist_env_and_memory()
    return answers


def bind_cores(ranks: int) -> None:
    """Pin each rank to one core."""
    cores = sorted(os.sched_getaffinity(0))[:ranks]
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(map(str, cores))


def request(prompt: Prompt) -> tuple[dict[str, Any], Any]:
    from vllm import SamplingParams

    from model_ext.conditioning import EXTRA_ARG, cache_salt, pack

    packed = pack(np.array(prompt.embedding, np.float32))
    params = SamplingParams(
        temperature=0,
        max_tokens=prompt.steps,
        logprobs=0,
        prompt_logprobs=VOCABULARY if prompt.prompt_logprobs else None,
        ignore_eos=True,
        detokenize=False,
        extra_args={EXTRA_ARG: packed},
    )
    return {"prompt_token_ids": prompt.ids, "cache_salt": cache_salt(packed)}, params


def answer(output: Any) -> dict[str, Any]:
    (completion,) = output.outputs
    chosen = [
        candidates[token].logprob
        for token, candidates in zip(completion.token_ids, completion.logprobs, strict=True)
    ]
    rows = None
    if output.prompt_logprobs:
        assert output.prompt_logprobs[0] is None  # vLLM returns none for the first token
        rows = [
            [candidates[token].logprob for token in range(VOCABULARY)]
            for candidates in output.prompt_logprobs[1:]
        ]
    return {"ids": list(completion.token_ids), "logprobs": chosen, "prompt_logprobs": rows}


if __name__ == "__main__":
    main()
