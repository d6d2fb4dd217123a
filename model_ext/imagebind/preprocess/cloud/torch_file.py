"""Read clouds saved by `torch.save` (.pt), if the operator enables it.

The file is a pickle. torch's `weights_only` calls no functions, but this check has had security
holes, so the archive's size is checked first, and the option is off by default.
"""

import io
import zipfile

import numpy as np
import torch

from model_ext.imagebind.preprocess.cloud.table import Cloud, check_count
from model_ext.imagebind.preprocess.errors import DecodeError

ZIP = b"PK\x03\x04"
DAMAGED = "the .pt file is damaged or does not hold one dense tensor"


def read_torch_file(data: bytes, max_points: int) -> Cloud:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > len(data):
                raise DecodeError("the .pt file is compressed")  # torch.save never does that
        tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DecodeError:
        raise
    except Exception:  # pickle's and torch's readers raise many types
        raise DecodeError(DAMAGED) from None
    if type(tensor) is not torch.Tensor or tensor.layout != torch.strided:
        raise DecodeError(DAMAGED)
    if not tensor.is_floating_point() or tensor.ndim != 2 or tensor.shape[1] != 3:
        raise DecodeError("the .pt file must hold a float tensor of shape (N, 3)")
    # By its strides, a tensor may have more elements than the file stores.
    check_count(len(tensor), max_points)
    return np.array(tensor.detach().to(torch.float32).numpy())
