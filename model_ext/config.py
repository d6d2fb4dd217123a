"""The sections that bindserve adds to a model's config.json.

The sections describe the encoders, the bind network, the injection, the retrieval cache and the
origin of the weights. The sections are immutable, and this module validates them when it reads
them. `transformers` reads the language model's fields. This module does not depend on vLLM or on
the files of the weights.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from model_ext.errors import ConfigError

Count = Annotated[int, Field(gt=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
InjectionForm = Literal["value", "residual"]
# The entry of `architectures` in the config.json of a folder without a language model.
ENCODERS_ALONE = "ImageBindModel"
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class EncoderSummary:
    """Section `imagebind`: the modalities and the embedding size of the encoders."""

    modalities: Annotated[tuple[str, ...], Field(min_length=1)]
    embedding_dim: Count  # Length D of an embedding.
    # The input of the vision encoder that represents a request without attachments.
    text_only: Literal["zero_image"] = "zero_image"


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class BindConfig:
    """Section `bind`: the network that maps an embedding (D) to the language model's width (C)."""

    in_features: Count  # Length D of an embedding.
    hidden_size: Count  # Hidden size C of the language model.
    intermediate_size: Count
    blocks: Count = 3
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    # Epsilon of the bind network's norms. It may differ from the language model's rms_norm_eps.
    norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    # Whether the blocks' linear maps have biases; the projection always has a bias
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class InjectionConfig:
    """Section `injection`: how a term, multiplied by trained gates, conditions the last `layers`
    layers.

    The form `value`, which the released weights use, adds the term after attention. The form
    `residual` (paper, eq. 2) adds the term to the layer's input.
    """

    form: InjectionForm
    first_layer: Annotated[int, Field(ge=0)]
    layers: Count  # Number q of injected layers.
    v_correction_rank: Annotated[int, Field(ge=0)] = 0  # Rank of the LoRA in v_proj, 0 for none.

    def __post_init__(self) -> None:
        if self.form == "residual" and self.v_correction_rank:
            raise ValueError("v_correction_rank must be 0: the residual form has no value map")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class CacheConfig:
    """Section `cache`: the default cache index, a folder inside the model's folder."""

    folder: str | None = None

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        path = PurePosixPath(self.folder)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"folder must be inside the model's folder, got {self.folder!r}")


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Source:
    """A file that the weights were converted from."""

    role: str  # The kind of content, for example "llama" or "tokenizer".
    file: str  # The file's name without its folder.
    sha256: Sha256
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Provenance:
    """Section `provenance`: the model's training stage and source files, for `doctor` and users."""

    stage: Literal["pretrain", "finetune", "encoders"]  # "encoders": without a language model.
    legacy: bool = False  # Whether the bind network has the older form, with LayerNorm and biases.
    base_fingerprint: Sha256 | None = None
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class EncodersConfig:
    """The sections of a model folder that has encoders, with or without a language model."""

    imagebind: EncoderSummary
    cache: CacheConfig
    provenance: Provenance

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """Read the sections from a whole config.json.

        Raises ConfigError: when a key is missing, unknown or invalid.
        """
        return _read_sections(cls, config)

    def to_hf(self) -> dict[str, Any]:
        """Return the sections as the JSON object that config.json contains."""
        sections: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return sections


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class BindServeConfig(EncodersConfig):
    """All sections of a config.json, checked against the language model's fields."""

    bind: BindConfig
    injection: InjectionConfig

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """Read the sections from a whole config.json.

        Raises ConfigError: when a key is missing, unknown or invalid.
        """
        own = _read_sections(cls, config)
        own._check_language_model(config)
        return own

    def _check_language_model(self, config: Mapping[str, Any]) -> None:
        last = self.injection.first_layer + self.injection.layers
        width, hidden, layers = (
            self.imagebind.embedding_dim,
            config.get("hidden_size"),
            config.get("num_hidden_layers"),
        )
        for key, value, other, expected in (
            ("bind.in_features", self.bind.in_features, "imagebind.embedding_dim", width),
            ("bind.hidden_size", self.bind.hidden_size, "hidden_size", hidden),
            ("injection.first_layer + layers", last, "num_hidden_layers", layers),
        ):
            if value != expected:
                raise ConfigError(f"config.json: {key} is {value}, but {other} is {expected}")


def has_language_model(config: Mapping[str, Any]) -> bool:
    """Return True if the config.json describes a language model, and False if it describes only
    encoders.
    """
    return config.get("architectures") != [ENCODERS_ALONE]


def read_document(folder: Path) -> dict[str, Any]:
    """Read a model folder's config.json. Raises OSError, ConfigError."""
    try:
        document = json.loads((folder / "config.json").read_bytes())
    except (ValueError, RecursionError):
        raise ConfigError(f"{folder / 'config.json'}: not JSON") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{folder / 'config.json'}: not a JSON object")
    return document


def read_sections(folder: Path) -> EncodersConfig:
    """Read the sections of a model folder's config.json, with a language model or without.

    Raises OSError, ConfigError.
    """
    document = read_document(folder)
    kind = BindServeConfig if has_language_model(document) else EncodersConfig
    return kind.from_hf(document)


_SECTIONS = ("imagebind", "bind", "injection", "cache", "provenance")


Sections = TypeVar("Sections", bound=EncodersConfig)


def _read_sections(kind: type[Sections], config: Mapping[str, Any]) -> Sections:
    names = {field.name for field in fields(kind)}
    sections = {name: config[name] for name in _SECTIONS if name in config and name in names}
    try:
        return TypeAdapter(kind).validate_json(json.dumps(sections))
    except ValidationError as error:
        raise ConfigError(f"config.json: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key}: {first['msg']}" if key else first["msg"]
