"""One arm of the engine benchmark: a vLLM engine in a process of its own, driven by lines of JSON.

`{"batch": 32, "prompt": 64, "tokens": 32, "seed": 1}` on standard input generates, with new
embeddings if the model is ours, and answers `{"seconds": ...}`. With `"profile": true` the answer
says what the worker did meanwhile. engine.py runs it as a module.
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


def main(model: str, options: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # vLLM prints to standard output; the answers have it to themselves
    from vllm import LLM

    llm = LLM(model, skip_tokenizer_init=True, worker_extension_cls=PROFILED, **json.loads(options))
    arm = Arm(llm, json.loads((Path(model) / "config.json").read_text()))
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        print(json.dumps(arm.run(**json.loads(line))), file=answers)


class Arm:
    def __init__(self, llm: Any, config: dict[str, Any]) -> None:
        self.llm = llm
        self.vocabulary = config["vocab_size"]
        self.embedding_dim = config.get("imagebind", {}).get("embedding_dim")
        self.random = np.random.default_rng(0)

    def run(
        self, batch: int, prompt: int, tokens: int, seed: int, profile: bool = False
    ) -> dict[str, float]:
        """Answer `batch` requests of `prompt` tokens with `tokens` tokens each."""
        ids = np.random.default_rng(seed).integers(3, self.vocabulary, (batch, prompt))
        prompts, params = [], []
        for row in ids:
            salt, extra_args = self._condition()
            prompts.append({"prompt_token_ids": row.tolist(), "cache_salt": salt})
            params.append(self._params(tokens, extra_args))
        if profile:
            self.llm.collective_rpc("profile_start")
        start = time.perf_counter()
        self.llm.generate(prompts, params, use_tqdm=False)
        measured = {"seconds": time.perf_counter() - start}
        if profile:
            (profiled,) = self.llm.collective_rpc("profile_stop")
            measured |= profiled
        return measured

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
