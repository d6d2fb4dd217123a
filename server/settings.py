"""Settings: everything an operator can decide, read once at the door and never changed.

Flag > BINDSERVE_* environment > --config YAML > default. Unknown keys and bad values stop the
program and are named. vLLM's own flags are not repeated here: `vllm_args` passes them on.
"""

import os
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from model_ext.imagebind.config import ENCODER_OF, DtypeSetting
from model_ext.imagebind.preprocess.limits import Limits

Count = Annotated[int, Field(gt=0)]
MiB = 1 << 20

# Fields of vLLM's protocol that reach into the engine or run a client's template.
EngineField = Literal[
    "vllm_xargs",
    "kv_transfer_params",
    "ec_transfer_params",
    "mm_processor_kwargs",
    "media_io_kwargs",
    "chat_template",
    "prompt_embeds",
]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BINDSERVE_", frozen=True, extra="forbid")

    model: Path  # a folder that `bindserve convert` or `bindserve train export` wrote
    config: Path | None = None  # YAML with any of these keys

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    served_model_name: str | None = None  # default: the folder's name
    vllm_args: Annotated[tuple[str, ...], NoDecode] = ()  # flags of `vllm serve`

    request_log: bool = False  # a line of JSON a request on standard output, not uvicorn's line

    cache: str | None = None  # a folder, URLs of services, or "none"; default: the model's own
    cache_policy: Literal["off", "refuse"] = "refuse"  # without it when it fails, or 503
    cache_token_file: Path | None = None  # what the retrieval services were given
    cache_device: Literal["auto", "cpu", "cuda"] = "auto"  # of a folder; "auto": a GPU if present
    # GPU memory of its vectors, in each API process. Default: half of what is free. The engine gets
    # what the caches and the encoders leave, if --gpu-memory-utilization is not given.
    cache_gpu_bytes: Count | None = None
    cache_timeout_s: float = Field(2, gt=0)  # for one request to a service, retries included

    api_key_file: Path | None = None  # one key a line; every path but the health checks needs one
    no_auth: bool = False  # let everybody in who reaches a host that is not this machine's own
    key_requests_per_minute: int = Field(0, ge=0)  # of one API key, in each process; 0: no limit
    key_concurrent: int = Field(0, ge=0)  # requests of one API key at a time
    allow_fields: Annotated[tuple[EngineField, ...], NoDecode] = ()  # what clients may write

    allow_media_urls: bool = False  # fetch http(s) URLs that clients name, from public addresses
    fetch_timeout_s: float = Field(10, gt=0)  # for one URL, redirects included
    fetch_waiting: Count = 64  # URLs that are fetched at a time; 503 beyond

    # In one process at a time, 503 beyond; 0: no bound. Four times vLLM's default of sequences that
    # run at a time, so that its queue, not this, is what fills up first.
    max_requests: int = Field(1024, ge=0)
    max_body_bytes: Count = 64 * MiB  # of a request that is held in memory
    max_held_bytes: Count = 1024 * MiB  # of all of them at a time; 503 beyond
    max_upload_bytes: Count = 512 * MiB  # of a multipart request, which is written to disk
    max_uploads: Count = 32  # multipart requests at a time; 503 beyond
    upload_folder: Path | None = None  # where they are written; default: the system's, often /tmp
    owner_files: Count = 1000  # stored by one API key, through /v1/files
    owner_bytes: Count = 2048 * MiB
    stored_bytes: Count = 16384 * MiB  # by all of them
    file_age_s: Count = 30 * 24 * 3600  # the longest that a file is kept, and the default
    max_attachments: Count = 16  # in one request
    max_n: Count = 16  # choices of one request
    max_tokens: Count = 8192  # of one choice
    max_cache_top_k: Count = 1000  # neighbours that one request may blend in
    max_embedding_inputs: Count = 256  # in one request
    limits: Limits = Limits()  # how much of each kind of media is let in

    decode_workers: Count = min(4, os.cpu_count() or 1)  # processes
    decode_timeout_s: float = Field(30, gt=0)  # for one file, of CPU time; 4 times by the clock
    decode_memory_bytes: Count = 2048 * MiB  # of one process
    decode_waiting: Count = 64  # files that may wait for a process

    encode_device: str = "auto"  # "auto": the GPU if there is one
    encode_load_format: Literal["auto", "dummy"] = "auto"  # dummy: random weights, to measure speed
    encode_threads: Count = max(1, (os.cpu_count() or 1) // 2)
    # Of the weights and activations. auto: bfloat16 on a GPU that supports it, float32 on a CPU.
    encode_dtype: DtypeSetting = "auto"
    encode_graphs: bool = True  # on a GPU: batches run as CUDA graphs
    # Images in a batch; other files count by their tokens (257 an image). Larger batches need more
    # GPU memory, which the engine does not get.
    encode_batch: Count = 32
    encode_waiting: Count = 256  # tensors that may wait for the encoders
    embedding_cache_bytes: int = Field(256 * MiB, ge=0)  # embeddings kept by content

    @field_validator("vllm_args", "allow_fields", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """The environment gives one string, written as for a shell."""
        return shlex.split(value) if isinstance(value, str) else value

    @field_validator("limits", mode="before")
    @classmethod
    def _known_limits(cls, value: Any) -> Any:
        if isinstance(value, dict):
            unknown = value.keys() - {field.name for field in fields(Limits)}
            if unknown:
                raise ValueError(f"unknown key: {', '.join(sorted(map(str, unknown)))}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = init_settings().get("config") or env_settings().get("config")
        if file is None:
            return init_settings, env_settings
        if not Path(file).is_file():
            raise FileNotFoundError(f"--config {file}: no such file")
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, file)

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Flags that were not given (None) leave the choice to the other sources."""
        return cls(**{name: value for name, value in flags.items() if value is not None})

    @property
    def max_file_bytes(self) -> int:
        """No attachment may be larger."""
        return max(self.limits.bytes_of(modality) for modality in ENCODER_OF)

    @property
    def name(self) -> str:
        """What clients write as `model`."""
        return self.served_model_name or self.model.resolve().name
