"""Step `start-up`: the time from command to ready of `vllm serve`.

The step `server` measures the same of `bindserve serve`. Weights are random on both sides.
"""

import torch

from deploy.gpu.arguments import Arguments
from deploy.gpu.service import start_plain_vllm
from model_ext.bench import random_model
from model_ext.bench.serving_folder import write_plain_folder

READY_S = 200


def main() -> None:
    arguments = Arguments.parse(__doc__)
    shape = random_model.LLAMA_7B if arguments.full else random_model.TINY
    folder = arguments.work / "plain"
    write_plain_folder(folder, shape)
    flags = ["--load-format=dummy"]
    if not torch.cuda.is_available():
        flags += ["--enforce-eager", "--dtype=float32", f"--kv-cache-memory-bytes={1 << 28}"]
    arguments.wait_until_quiet()
    with start_plain_vllm(folder, arguments.work / "start-up.log", flags) as service:
        seconds = service.wait(READY_S)
    arguments.rows.number("plain vLLM: start, from command to ready", seconds, "s")


if __name__ == "__main__":
    main()
