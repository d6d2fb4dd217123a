"""For launchers: `torchrun -m model_ext.train pretrain CONFIG.yaml`, or deepspeed's `--module`.

The same as `bindserve train`, without the rest of the command line.
"""

import argparse
import sys
from pathlib import Path

from model_ext.train.errors import TrainError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="model_ext.train", description=__doc__)
    parser.add_argument("phase", choices=["pretrain", "finetune"])
    parser.add_argument("config", type=Path)
    parser.add_argument("--until", type=int, help="stop after so many updates, with a checkpoint")
    parser.add_argument(
        "--local_rank", help="what deepspeed's launcher adds; the environment tells"
    )
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
