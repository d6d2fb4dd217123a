"""Fixtures and test scheduling for all folders."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

# The tests' tensors are small. With a second thread, a model's conversion takes three times as long
# on two busy cores, because the threads wait for each other. torch reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = Path(__file__).parent / "fixtures" / "tiny"
ADAPTERS = {
    "finetune": "adapter-finetune.pth",
    "pretrain": "adapter-pretrain.pth",
    "legacy": "adapter-legacy-bridge.pth",
}
INDEXES = ("knn.index", "knn-ivf.index")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by name: the converted test checkpoints, and two caches of the test indexes."""
    folder = tmp_path_factory.mktemp("tiny")
    return convert_fixtures(folder, ADAPTERS, INDEXES)


def convert_fixtures(folder: Path, kinds: Iterable[str], indexes: Iterable[str]) -> dict[str, Path]:
    """Convert the checkpoints and indexes into `folder`. Return their folders by name."""
    # imported here, so that tests of one folder do not import the code of all folders
    import torch

    from cache_index.build import import_index
    from model_ext.convert.model import Options, convert
    from model_ext.convert.sources import Sources

    for name in kinds:
        sources = Sources(
            llama=TINY / "llama" / "tiny",
            adapter=TINY / ADAPTERS[name],
            imagebind=TINY / "imagebind_w3D.pth",
        )
        convert(sources, folder / name, Options(dtype=torch.float32, progress=False))
    for name in indexes:
        import_index(TINY / name, folder / name, progress=False)
    return {name: folder / name for name in (*kinds, *indexes)}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadFileScheduling | None":
    """Run all tests that share a server in one pytest worker, which then starts it once."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class LoadServerScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return shared_server(nodeid) or super()._split_scope(nodeid)

    return LoadServerScheduling(config, log)


def shared_server(nodeid: str) -> str | None:
    """Return the name of the group of tests to which a test belongs because of its server: "demo"
    for the demonstration's server, "specs" for the servers of the specs in tests/serving/launch.py.
    Some tests need several of the latter, so one worker runs the tests of all of them.
    """
    if nodeid.startswith("tests/serving/demo/"):
        return "demo"
    if not nodeid.startswith("tests/serving/") or "[" not in nodeid:
        return None
    from tests.serving.launch import SPECS

    return "specs" if any(str(spec) in nodeid.split("[", 1)[1] for spec in SPECS) else None
