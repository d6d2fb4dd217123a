import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_ext.imagebind.preprocess.cloud.torch_file import read_torch_file
from model_ext.imagebind.preprocess.errors import DecodeError
from tests.model_ext.imagebind.preprocess.broken import cut_off


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dense_float_tensors(dtype: torch.dtype) -> None:
    points = torch.randn(9, 3).to(dtype)
    cloud = read_torch_file(saved(points), 9)
    assert cloud.dtype == np.float32
    np.testing.assert_array_equal(cloud, points.float().numpy())


@pytest.mark.parametrize(
    "value",
    [
        Evil(),
        [torch.zeros(9, 3)],
        {"points": torch.zeros(9, 3)},
        torch.zeros(9, 3).to_sparse(),
        torch.nn.Parameter(torch.zeros(9, 3)),
        torch.zeros(9, 3, dtype=torch.int64),
        torch.zeros(9, 4),
        torch.zeros(27),
        3,
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused(value: Any) -> None:
    message = r"the .pt file (.* one dense tensor|must hold a float tensor of shape \(N, 3\))"
    with pytest.raises(DecodeError, match=message):
        read_torch_file(saved(value), 100)


def test_a_tensor_may_not_be_larger_than_the_limit_by_its_strides() -> None:
    """The file stores an expanded tensor (strides of 0) in 12 bytes, but a dense copy of the tensor
    would need 12 TB.
    """
    wide = torch.zeros(1, 3).expand(10**12, 3)
    data = saved(wide)
    assert len(data) < 4096
    with pytest.raises(DecodeError, match="more than 1000 points"):
        read_torch_file(data, 1000)


def test_compressed_archives_are_refused() -> None:
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(torch.zeros(10**6, 3)))) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(DecodeError, match="compressed"):
        read_torch_file(packed.getvalue(), 10**6)


def test_plain_pickles_are_refused() -> None:
    with pytest.raises(DecodeError, match="damaged"):
        read_torch_file(pickle.dumps(Evil()), 100)


def test_cut_off_files_are_refused(media: Path) -> None:
    for data in cut_off((media / "points_b.pt").read_bytes()):
        with pytest.raises(DecodeError, match="damaged"):
            read_torch_file(data, 10_000)
