"""Decode video files, whose paths are arguments, and print the result of each file.

Tests run this module as a separate process, because a damaged file can crash the decoder.
"""

import sys
from pathlib import Path

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.video import read_video


def main(files: list[str]) -> None:
    config = PreprocessConfig(image_size=32)
    for file in files:
        try:
            video = read_video(Path(file).read_bytes(), config, Limits())
            answer = "frames" if video.isfinite().all() else "not finite"
        except DecodeError as error:
            answer = str(error)
        print(Path(file).name, answer, sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
