"""Step `start-up`: the time from the command `vllm serve` until the server is ready.

The step `server` measures this time for `bindserve serve`. Both use random weights.
"""

import torch

from deploy.gpu.arguments import Arguments
from model_ext.bench import random_model
from model_ext.bench.serving_folder import write_plain_folder
from server.bench import start_up
from server.bench.service import start_plain_vllm

READY_S = {"full": 200, "tiny": 1200}


def main() -> None:
    arguments = Arguments.parse(__doc__)
    shape = random_model.LLAMA_7B if arguments.full else random_model.TINY
    folder = arguments.work / "plain"
    write_plain_folder(folder, shape)
    flags = start_up.flags("cuda" if torch.cuda.is_available() else "cpu")
    arguments.wait_until_quiet()
    with start_plain_vllm(folder, arguments.work / "start-up.log", flags) as service:
        seconds = service.wait(READY_S[arguments.size])
    arguments.rows.number("plain vLLM: start, from command to ready", seconds, "s")


if __name__ == "__main__":
    main()
