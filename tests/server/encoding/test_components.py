"""Loading the encoders. On a GPU, only one encoder at a time is in memory in float32."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.runner import max_gpu_bytes
from server.encoding.components import ENCODERS, EncodingComponents, open_encoders
from server.settings import Settings


def test_only_the_encoder_of_images_is_on_the_device_in_float32(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []

    def record(module: torch.nn.Module, device: str) -> torch.nn.Module:
        moved.append(f"{type(module).__name__} {device}")
        return module

    monkeypatch.setattr(torch.nn.Module, "to", record)
    model = open_encoders(settings.model / ENCODERS, settings, "cuda")
    assert moved == [f"{type(model.encoder('vision')).__name__} cuda"]
    assert {tensor.device.type for tensor in model.parameters()} == {"cpu"}
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


def test_dummy_encoders_are_created_on_the_device(settings: Settings, tmp_path: Path) -> None:
    config = (settings.model / ENCODERS / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(config)
    dummy = settings.model_copy(update={"encode_load_format": "dummy"})
    assert isinstance(open_encoders(tmp_path, dummy, "cpu"), ImageBind)


async def test_the_service_reports_its_memory(parts: EncodingComponents) -> None:
    assert parts.hello().gpu_bytes == 0
    assert replace(parts, gpu_bytes=3 << 30).hello().gpu_bytes == 3 << 30


def test_memory_on_a_gpu_is_the_peak_and_the_waiting_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _device: 1000)
    assert max_gpu_bytes("cuda", 24) == 1024
    assert max_gpu_bytes("cpu", 24) == 0
