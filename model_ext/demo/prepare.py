"""Write the model folder of the demonstration: the base comes from its package, all other files
from this folder.

    python -m model_ext.demo.prepare FOLDER

Takes about half a minute. Imports neither DeepSpeed nor the server.
"""

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from model_ext.convert.model import Options, write_opened
from model_ext.convert.provenance import Licences
from model_ext.demo import base
from model_ext.train.export import DTYPES, open_run
from model_ext.weights.folder import new_folder

HERE = Path(__file__).parent
WEIGHTS, ENCODERS, CACHE = "weights", "encoders", "cache"
LICENCES = Licences(llama=base.LICENCE, adapter="Apache-2.0", imagebind="Apache-2.0")


def prepare(out: Path, source: Path = HERE, dtype: str = "float32") -> None:
    """Write the model folder, unless `out` is complete.

    Writes no retrieval cache if `source` contains none, because a cache is built with the encoders
    of this folder.
    """
    if (out / "config.json").is_file():
        return
    with TemporaryDirectory(prefix="bindserve-demo-") as scratch:
        llama = Path(scratch, "base")
        base.write_base(llama)
        opened = open_run(source / WEIGHTS, llama, source / ENCODERS, LICENCES)
        with new_folder(out) as folder:
            options = Options(dtype=DTYPES[dtype], progress=False)
            has_cache = (source / CACHE).is_dir()
            write_opened(opened, folder, options, cache=CACHE if has_cache else None)
            if has_cache:
                shutil.copytree(source / CACHE, folder / CACHE, dirs_exist_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    prepare(parser.parse_args().folder)
