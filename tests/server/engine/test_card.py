"""Reading the size of the GPU's memory from NVML, here a fake library."""

from types import SimpleNamespace

import pytest
from vllm import platforms
from vllm.utils import import_utils

from server.engine.card import read_card
from server.engine.memory_budget import Card


def test_there_is_no_card_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = SimpleNamespace(is_cuda=lambda: False)
    monkeypatch.setattr(platforms, "current_platform", cpu, raising=False)
    assert read_card() is None


def test_the_first_visible_card_is_read_and_the_library_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    sizes = {"gpu 3": SimpleNamespace(total=80, free=70)}
    nvml = SimpleNamespace(
        nvmlInit=lambda: calls.append("open"),
        nvmlShutdown=lambda: calls.append("close"),
        nvmlDeviceGetHandleByIndex=lambda index: f"gpu {index}",
        nvmlDeviceGetMemoryInfo=sizes.__getitem__,
    )
    cuda = SimpleNamespace(
        is_cuda=lambda: True,
        device_id_to_physical_device_id=lambda _device: 3,  # as with CUDA_VISIBLE_DEVICES=3
        get_device_name=lambda _device: "H100",
    )
    monkeypatch.setattr(platforms, "current_platform", cuda, raising=False)
    monkeypatch.setattr(import_utils, "import_pynvml", lambda: nvml)
    assert read_card() == Card("H100", 80, 70)
    assert calls == ["open", "close"]
