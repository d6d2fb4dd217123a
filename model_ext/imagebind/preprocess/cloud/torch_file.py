"""Clouds saved by `torch.save` (.pt). Off unless the operator asks for it.

The file is a pickle. `weights_only` refuses to call anything, but that check has had holes before,
so the archive is bounded first, and a file of a stranger should not get here at all.
"""

import io
import zipfile

import numpy as np
import torch

from model_ext.imagebind.preprocess.cloud.table import Cloud, check_count
from model_ext.imagebind.preprocess.errors import DecodeError

ZIP = b"PK\x03\x04"
DAMAGED = "the .pt file is damaged or does not hold one dense tensor"


def read_torch_file(data: bytes, most: int) -> Cloud:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > len(data):
                raise DecodeError("the .pt file is compressed")  # torch.save never does that
        tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DecodeError:
        raise
    except Exception:  # pickle's and torch's readers raise whatever they like
        raise DecodeError(DAMAGED) from None
    if type(tensor) is not torch.Tensor or tensor.layout != torch.strided:
        raise DecodeError(DAMAGED)
    if not tensor.is_floating_point() or tensor.ndim != 2 or tensor.shape[1] != 3:
        raise DecodeError("the .pt file must hold a float tensor of shape (N, 3)")
    check_count(len(tensor), most)  # a tensor may be wider than what is stored, by its strides
    return np.array(tensor.detach().to(torch.float32).numpy())
