"""Read clouds that `torch.save` wrote (.pt). The operator must enable this format.

The file is a pickle. With `weights_only`, torch calls no function that the pickle names, but this
protection has had security holes. Therefore, the format is disabled by default. This module checks
the archive's size first.
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
                raise DecodeError("the .pt file is compressed")  # torch.save never compresses
        tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DecodeError:
        raise
    except Exception:  # torch raises many types of exceptions
        raise DecodeError(DAMAGED) from None
    if type(tensor) is not torch.Tensor or tensor.layout != torch.strided:
        raise DecodeError(DAMAGED)
    if not tensor.is_floating_point() or tensor.ndim != 2 or tensor.shape[1] != 3:
        raise DecodeError("the .pt file must hold a float tensor of shape (N, 3)")
    # A tensor with small strides can have more elements than the file stores.
    check_count(len(tensor), max_points)
    return np.array(tensor.detach().to(torch.float32).numpy())
