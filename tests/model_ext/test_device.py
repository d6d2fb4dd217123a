"""The choice of the device."""

import pytest
import torch

from model_ext.device import choose_device


@pytest.mark.parametrize("gpu", [True, False])
def test_auto_means_the_gpu_if_there_is_one(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert choose_device("auto") == ("cuda" if gpu else "cpu")
    assert choose_device("cpu") == "cpu"
    assert choose_device("cuda:1") == "cuda:1"
