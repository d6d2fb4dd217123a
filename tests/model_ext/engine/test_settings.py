from typing import Any

import pytest

from model_ext.engine.settings import ArrivalSettings


@pytest.mark.parametrize(
    "config", [{}, {"other": 1}, {"bindserve": {}}, None], ids=["empty", "other", "unset", "none"]
)
def test_defaults(config: Any) -> None:
    assert ArrivalSettings.of(config) == ArrivalSettings(arrival="auto", graphs=True)


def test_values() -> None:
    settings = ArrivalSettings.of({"bindserve": {"arrival": "layers", "graphs": False}})
    assert settings == ArrivalSettings(arrival="layers", graphs=False)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"arrival": "fast"}, "bindserve.arrival"),
        ({"graphs": "no"}, "bindserve.graphs"),
        ({"graph": True}, "bindserve.graph is not"),
        ("layers", "bindserve must be"),
    ],
)
def test_errors_name_the_key(section: Any, key: str) -> None:
    with pytest.raises(ValueError, match=f"additional_config.{key}"):
        ArrivalSettings.of({"bindserve": section})
