"""Settings of `arrival.py`, from vLLM's `--additional-config '{"bindserve": {...}}'`."""

from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

Maps = Literal["auto", "folded", "layers"]
KEY = "bindserve"  # key in vLLM's additional_config


@dataclass(frozen=True, slots=True)
class ArrivalSettings:
    """`arrival`: how the rows of new requests are computed. A row is the vector that one layer adds
    for a request. The setting applies only to models of the form "value".

    - folded: one matrix product for all layers, with a folded copy of their projections (8% of the
    memory of a 7B model);
    - layers: with the layers' own projections, one layer after the other, without a copy;
    - auto: folded if the layers' weights can be read, else layers.

    `graphs`: whether to capture the computation as CUDA graphs if vLLM captures graphs, too.
    """

    arrival: Maps = "auto"
    graphs: bool = True

    def __post_init__(self) -> None:
        if self.arrival not in get_args(Maps):
            choices = ", ".join(get_args(Maps))
            raise ValueError(f"additional_config.{KEY}.arrival must be one of {choices}")
        if not isinstance(self.graphs, bool):
            raise ValueError(f"additional_config.{KEY}.graphs must be true or false")

    @classmethod
    def of(cls, additional_config: Any) -> Self:
        """Read the settings.

        Raises ValueError: for an unknown key or a bad value. The message names the key.
        """
        section = additional_config.get(KEY, {}) if isinstance(additional_config, dict) else {}
        if not isinstance(section, dict):
            raise ValueError(f"additional_config.{KEY} must be an object")
        for name in section.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"additional_config.{KEY}.{name} is not a setting of bindserve")
        return cls(**section)
