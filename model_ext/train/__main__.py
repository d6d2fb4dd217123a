"""Train a phase under a launcher: `torchrun -m model_ext.train pretrain CONFIG.yaml`.

It does the same as `bindserve train`. DeepSpeed's launcher starts this module with `--module`.
"""

import argparse
import sys
from pathlib import Path

from model_ext.train.errors import TrainError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="model_ext.train", description=__doc__)
    parser.add_argument("phase", choices=["pretrain", "finetune"])
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--until", type=int, help="write a checkpoint and stop after this number of updates"
    )
    parser.add_argument("--local_rank", help="accepted for deepspeed's launcher and ignored")
    options = parser.parse_args(arguments)
    from model_ext.train.config import TrainConfig
    from model_ext.train.run import train

    try:
        train(TrainConfig.from_file(options.config, options.phase), options.phase, options.until)
    except TrainError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
