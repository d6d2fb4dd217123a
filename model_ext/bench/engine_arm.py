"""An arm (one side) of the engine benchmark: a vLLM engine in a process, controlled by JSON lines.

`{"requests": 32, "prompt": 64, "tokens": 32, "min_tokens": null, "seed": 1}` on standard input
starts a run, with new embeddings if the model is conditioned. The arm then prints `{"seconds":
...}`. With `"profile": true`, the printed object also has the worker's CPU times. `engine.py` runs
this module.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from model_ext.conditioning import EXTRA_ARG, cache_salt, pack

PROFILED = "model_ext.bench.profiling.Profiled"
CONDITIONED = "ImageBindLLMForCausalLM"


def main(model: str, options: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # vLLM prints to standard output, which is reserved for this module's JSON lines
    config = json.loads((Path(model) / "config.json").read_text())
    generator = Generator(open_llm(model, config, json.loads(options)), config)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        print(json.dumps(generator.run(**json.loads(line))), file=answers)


def open_llm(model: str, config: dict[str, Any], options: dict[str, Any]) -> Any:
    from vllm import LLM

    flags = {"skip_tokenizer_init": True, "worker_extension_cls": PROFILED, **options}
    if CONDITIONED in config["architectures"]:
        flags |= conditioned_classes(model, flags)
    return LLM(model, **flags)


def conditioned_classes(model: str, flags: dict[str, Any]) -> dict[str, Any]:
    """Return bindserve's scheduler class and, for vLLM's Model Runner V1, bindserve's worker class,
    as flags.
    """
    from vllm.engine.arg_utils import EngineArgs

    from model_ext.engine.adapter import adapt

    config = EngineArgs(model=model, **flags).create_engine_config()
    adapt(config)
    return {
        "worker_cls": config.parallel_config.worker_cls,
        "scheduler_cls": config.scheduler_config.scheduler_cls,
    }


class Generator:
    def __init__(self, llm: Any, config: dict[str, Any]) -> None:
        self.llm = llm
        self.vocabulary = config["vocab_size"]
        self.embedding_dim = config.get("imagebind", {}).get("embedding_dim")
        self.random = np.random.default_rng(0)

    def run(
        self,
        requests: int,
        prompt: int,
        tokens: int,
        seed: int,
        min_tokens: int | None = None,
        profile: bool = False,
    ) -> dict[str, float]:
        """Answer all prompts. Prompts have `prompt` tokens. Answers have `min_tokens` to `tokens`
        tokens.
        """
        rng = np.random.default_rng(abs(seed))
        ids = rng.integers(3, self.vocabulary, (requests, prompt))
        shortest = tokens if min_tokens is None else min_tokens
        lengths = rng.integers(shortest, tokens + 1, requests).tolist()
        prompts, params = [], []
        for row, length in zip(ids, lengths, strict=True):
            salt, extra_args = self._condition()
            prompts.append({"prompt_token_ids": row.tolist(), "cache_salt": salt})
            params.append(self._params(length, extra_args))
        if profile:
            self.llm.collective_rpc("profile_start")
        start = time.perf_counter()
        self.llm.generate(prompts, params, use_tqdm=False)
        answer = {"seconds": time.perf_counter() - start}
        if profile:
            (profiled,) = self.llm.collective_rpc("profile_stop")
            answer |= profiled
        return answer

    def _condition(self) -> tuple[str, dict[str, Any] | None]:
        if self.embedding_dim is None:
            return "plain", None
        packed = pack(self.random.standard_normal(self.embedding_dim).astype(np.float32))
        return cache_salt(packed), {EXTRA_ARG: packed}

    @staticmethod
    def _params(tokens: int, extra_args: dict[str, Any] | None) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=0,
            max_tokens=tokens,
            ignore_eos=True,
            detokenize=False,
            extra_args=extra_args,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
