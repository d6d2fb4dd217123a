"""`open_application`, which assembles the application for `serve`, Ray and the benchmarks. These
tests use the benchmark's mock engine.
"""

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.tool_parsers import ToolParserManager
from vllm.usage.usage_lib import UsageContext

from server.api.app import open_application
from server.bench.arm import NoEncoders
from server.bench.mock_engine import ConditionedMockLLM
from server.engine import flags
from server.settings import Settings

ROOT = Path(__file__).parents[3]
PLUGIN = """
from vllm.tool_parsers import ToolParser, ToolParserManager

@ToolParserManager.register_module("plugged")
class Plugged(ToolParser):
    pass
"""


async def test_parsers_routes_and_engine_are_assembled_and_closed(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    plugin = f"--tool-parser-plugin={tmp_path / 'plugin.py'}"
    settings = Settings.load(
        model=tiny_models["finetune"], cache="none", vllm_args=("--enforce-eager", plugin)
    )
    args = flags.parse(settings)
    config: Any = AsyncEngineArgs.from_cli_args(args).create_engine_config(
        UsageContext.OPENAI_API_SERVER
    )
    engine = nullcontext(ConditionedMockLLM(config))
    dim = json.loads((settings.model / "config.json").read_text())["imagebind"]["embedding_dim"]
    encoders = NoEncoders(dim)
    async with open_application(settings, args, engine, encoders, tmp_path) as application:
        assert ToolParserManager.get_tool_parser("plugged").__name__ == "Plugged"
        transport = httpx.ASGITransport(application.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body: dict[str, Any] = {
                "model": settings.name,
                "messages": [{"role": "user", "content": "Hello"}],
            }
            reply = await client.post(
                "/v1/chat/completions", json={**body, "max_completion_tokens": 3}
            )
            assert reply.json()["choices"][0]["message"]["content"] == " word" * 3
            assert (await client.get("/ready")).status_code == 200


def test_only_one_module_assembles_an_application() -> None:
    """Regression: `serve`, Ray and the benchmarks assembled the application in three functions,
    which differed.
    """
    callers = {
        str(path.relative_to(ROOT))
        for folder in ("server", "deploy")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bcreate_app\(settings|\bComponents\.open\(", path.read_text())
    }
    assert callers == {"server/api/app.py", "server/api/components.py"}


async def test_the_mock_encoders_have_a_unit_embedding() -> None:
    _, zero_image = await NoEncoders(4).hello()
    assert np.linalg.norm(zero_image) == pytest.approx(1)
