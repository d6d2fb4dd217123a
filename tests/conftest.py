"""Fixtures that several rooms share."""

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
    # Imported here: one room's tests should not load, or depend on, all the other rooms.
    import torch

    from cache_index.build import import_index
    from model_ext.convert.model import Options, convert
    from model_ext.convert.sources import Sources

    folder = tmp_path_factory.mktemp("tiny")
    for name, adapter in ADAPTERS.items():
        sources = Sources(
            llama=TINY / "llama" / "tiny",
            adapter=TINY / adapter,
            imagebind=TINY / "imagebind_w3D.pth",
        )
        convert(sources, folder / name, Options(dtype=torch.float32, progress=False))
    for name in INDEXES:
        import_index(TINY / name, folder / name, progress=False)
    return {name: folder / name for name in (*ADAPTERS, *INDEXES)}
