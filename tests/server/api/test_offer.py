"""The list of a server's features, which the web page reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from model_ext.config import BindServeConfig
from server.api.components import Components
from server.api.offer import describe
from server.conditioning.retrieve import Retriever
from server.settings import Settings
from tests.server.application import serve


@pytest.fixture
def config(tiny_models: dict[str, Path]) -> BindServeConfig:
    document = json.loads((tiny_models["finetune"] / "config.json").read_text())
    return BindServeConfig.from_hf(document)


def test_only_modalities_with_an_encoder_are_offered(config: BindServeConfig) -> None:
    settings = Settings(model=Path("m"), max_cache_top_k=7)
    offer = describe(settings, config, ["vision", "audio"], Retriever(None))
    assert set(offer["modalities"]) == {"image", "video", "audio"}
    assert set(offer["limits"]["file_bytes"]) == {"image", "video", "audio"}
    assert offer["limits"]["file_bytes"]["image"] == settings.limits.image_bytes
    assert offer["limits"]["top_k"] == 7
    assert (offer["cache"], offer["cache_defaults"]) == (False, None)
    assert offer["language_model"]


@pytest.mark.parametrize("objects", ["detector", "folder"])
def test_experts_are_offered_if_they_are_enabled(config: BindServeConfig, objects: str) -> None:
    settings = Settings(model=Path("m"), ocr=True, objects=objects, detector=Path("d"))
    offer = describe(settings, config, ["vision"], Retriever(None))
    assert offer["experts"] == ["ocr", "objects"]
    assert offer["detector"]
    assert describe(Settings(model=Path("m")), config, [], Retriever(None))["experts"] == []


async def test_the_defaults_of_the_cache_are_offered(components: Components) -> None:
    assert components.description["cache_defaults"] == {
        **{"top_k": 10, "temperature": 20, "weight": 0.5}
    }


@pytest.mark.parametrize("enabled", [True, False])
async def test_tools_are_offered_if_vllm_parses_them(enabled: bool) -> None:
    served = serve(flags={"enable_auto_tool_choice": enabled})
    (card,) = (await served.client.get("/v1/models")).json()["data"]
    offer: dict[str, Any] = card["imagebind"]
    assert offer["tools"] is enabled
