"""Search for clouds and tables on which a reader fails with another error than DecodeError.

    python -m tests.model_ext.imagebind.preprocess.fuzz FOLDER -max_total_time=3600

Atheris changes the files in FOLDER so that they reach new branches of the readers, and stores the
changed files there. If FOLDER is empty, it first gets the valid files of the tests. The arguments
are those of libFuzzer. On a failure, libFuzzer prints the traceback, and stores the file in the
working directory. The package atheris is not a dependency of the tests.
"""

import sys
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["model_ext.imagebind.preprocess", "laspy", "trimesh.exchange"]
):
    from model_ext.imagebind.preprocess.errors import DecodeError
    from model_ext.imagebind.preprocess.limits import Limits
    from model_ext.imagebind.preprocess.registry import decode
    from model_ext.imagebind.preprocess.sniff import sniff
    from model_ext.imagebind.preprocess.views import POINTS, read_view

LIMITS = Limits()
HEAD = 8192
# A decoding process has this much memory by default, and as much CPU time for one file.
OPTIONS = ("-max_len=65536", "-rss_limit_mb=2048", "-timeout=30")
IMU = {
    "imu-names.csv": b"time,ax,ay,az,gx,gy,gz\n"
    + b"".join(b"%d,1,2,3,4,5,6\n" % n for n in range(9)),
    "imu-plain.csv": b"0.1 0.2 0.3 0.4 0.5 0.6\n" * 9,
}


def run_one(data: bytes) -> None:
    sniff(data[:HEAD])
    for modality in ("point", "imu"):
        try:
            tensor = decode(modality, data, limits=LIMITS).tensor
        except (DecodeError, MemoryError):  # a decoding process reports both to the client
            continue
        assert tensor.isfinite().all()
    with suppress(DecodeError, MemoryError):
        assert read_view(POINTS, "point", data, LIMITS).isfinite().all()


def write_seeds(folder: Path) -> None:
    from tests.corpus import FOLDER
    from tests.serving.seeds import clouds

    files = {path.name: path.read_bytes() for path in FOLDER.glob("point-*")}
    for name, data in (files | clouds() | IMU).items():
        (folder / name).write_bytes(data)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        write_seeds(folder)
    atheris.Setup([sys.argv[0], *OPTIONS, *sys.argv[1:]], run_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
