"""Run several models through vLLM in one process, one engine after the other, without a server.

Importing vLLM costs each process of a server about 10 s of CPU time. A test that needs no HTTP
starts its engines here, so that all of them share one import.

    answers = generate([Job(model, ids, embedding)])
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 512


@dataclass(frozen=True)
class Prompt:
    """Token ids, an embedding (D,) that the engine receives unchanged, the number of tokens to
    generate, and whether to return the prompt's log-probabilities.
    """

    ids: list[int]
    embedding: list[float]
    steps: int = 1
    prompt_logprobs: bool = False


@dataclass(frozen=True)
class Answer:
    """Generated token ids, their log-probabilities, and the prompt's (prompt tokens - 1, V)."""

    ids: list[int]
    logprobs: list[float]
    prompt_logprobs: np.ndarray | None


def generate(jobs: dict[Path, list[Prompt]], timeout_s: float = 500) -> dict[Path, list[Answer]]:
    """Return the answers to the prompts of each model folder, which form one batch."""
    request = {str(model): [asdict(each) for each in prompts] for model, prompts in jobs.items()}
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # Run the engine in this process.
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
    answers = json.loads(process.stdout)
    return {
        model: [
            Answer(
                answer["ids"],
                answer["logprobs"],
                np.array(answer["prompt_logprobs"]) if answer["prompt_logprobs"] else None,
            )
            for answer in answers[str(model)]
        ]
        for model in jobs
    }


def main() -> None:
    """Read jobs from standard input, and write answers to standard output, as a line of JSON."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM also writes to standard output.
    jobs: dict[str, list[dict[str, Any]]] = json.loads(sys.stdin.read())
    answers = {
        model: run(model, [Prompt(**each) for each in prompts]) for model, prompts in jobs.items()
    }
    print(json.dumps(answers), file=output, flush=True)


def run(model: str, prompts: list[Prompt]) -> list[dict[str, Any]]:
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.engine.arg_utils import EngineArgs

    from model_ext.engine.adapter import adapt

    options = {
        **{"model": model, "enforce_eager": True, "dtype": "float32", "block_size": 32},
        **{"max_model_len": 512, "max_logprobs": VOCABULARY, "kv_cache_memory_bytes": 1 << 26},
        **{"skip_tokenizer_init": True, "max_num_seqs": max(2, len(prompts))},
    }
    config = EngineArgs(**options).create_engine_config()
    adapt(config)
    llm = LLM(**options, worker_cls=config.parallel_config.worker_cls, use_tqdm_on_load=False)
    inputs, params = zip(*map(request, prompts), strict=True)
    answers = [answer(output) for output in llm.generate(inputs, params, use_tqdm=False)]
    llm.llm_engine.engine_core.shutdown()
    del llm
    cleanup_dist_env_and_memory()
    return answers


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
        # vLLM computes no log-probability for the first token of a prompt.
        assert output.prompt_logprobs[0] is None
        rows = [
            [candidates[token].logprob for token in range(VOCABULARY)]
            for candidates in output.prompt_logprobs[1:]
        ]
    return {"ids": list(completion.token_ids), "logprobs": chosen, "prompt_logprobs": rows}


if __name__ == "__main__":
    main()
