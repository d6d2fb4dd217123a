"""Reading a tensor from a memory-mapped file keeps no pages of the file in memory."""

from pathlib import Path

import torch

from model_ext.convert.pickles import open_pickle

MEGABYTES = 64


def resident() -> float:
    """Return the MiB of memory-mapped files in this process's memory, as the kernel counts."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssFile:"))
    return int(line.split()[1]) / 1024


def test_pages_are_given_back(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    big = torch.arange(MEGABYTES << 18, dtype=torch.float32)
    torch.save({"before": torch.ones(3), "big": big, "after": torch.ones(5)}, path)
    tensors = open_pickle(path)
    before = resident()
    for _ in range(2):  # the second pass reads the file again
        assert torch.equal(tensors["big"].read(), big)
        assert resident() - before < MEGABYTES / 4
    # The tensors "before" and "after" share pages of the file with "big".
    assert torch.equal(tensors["before"].read(), torch.ones(3))
    assert torch.equal(tensors["after"].read(), torch.ones(5))


def test_a_reading_in_place_would_keep_them(tmp_path: Path) -> None:
    """Check that the first test can fail: without `read`, the pages of a tensor stay in memory."""
    path = tmp_path / "x.pth"
    torch.save({"big": torch.ones(MEGABYTES << 18)}, path)
    mapped = torch.load(path, mmap=True, weights_only=True)["big"]
    before = resident()
    assert mapped.sum() == MEGABYTES << 18
    assert resident() - before > MEGABYTES / 2


def test_views_of_one_storage(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    base = torch.randn(2048, 1024)
    torch.save({"rows": base[512:1024], "turned": base.T}, path)
    tensors = open_pickle(path)
    assert torch.equal(tensors["rows"].read(), base[512:1024])
    assert torch.equal(tensors["turned"].read(), base.T)
    assert tensors["turned"].read().is_contiguous()
