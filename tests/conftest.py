"""Fixtures that several rooms share."""

from collections.abc import Iterable
from pathlib import Path

import pytest

TINY = Path(__file__).parent / "fixtures" / "tiny"
ADAPTERS = {
    "finetune": "adapter-finetune.pth",
    "pretrain": "adapter-pretrain.pth",
    "legacy": "adapter-legacy-bridge.pth",
}
INDEXES = ("knn.index", "knn-ivf.index")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The fixtures' checkpoints as model folders, their two indexes as cache folders."""
    folder = tmp_path_factory.mktemp("tiny")
    return convert_fixtures(folder, ADAPTERS, INDEXES)


def convert_fixtures(folder: Path, kinds: Iterable[str], indexes: Iterable[str]) -> dict[str, Path]:
    """Convert the checkpoints and indexes into `folder`. Return their folders by name."""
    # Imported here, so that a test of one package does not load the other packages.
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
