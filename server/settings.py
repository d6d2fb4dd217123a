"""Settings: the operator's choices, which are read once at start-up and do not change.

They come from, in decreasing precedence: flags, environment variables BINDSERVE_*, the --config
YAML file, defaults. On an unknown key or a bad value, the program exits with an error that names
the key. The setting `vllm_args` contains the flags for vLLM.
"""

import os
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from model_ext.imagebind.config import ENCODER_OF, DtypeSetting
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Channels, ReadOptions

Count = Annotated[int, Field(gt=0)]
MiB = 1 << 20
DECODER = "decoders/image"  # Folder of the decoder of pictures inside a model folder.

# Fields of vLLM's protocol that change the engine's behaviour or run a template that the client
# sends. They are rejected unless the operator allows them.
EngineField = Literal[
    "vllm_xargs",
    "kv_transfer_params",
    "ec_transfer_params",
    "mm_processor_kwargs",
    "media_io_kwargs",
    "chat_template",
    "prompt_embeds",
]
Expert = Literal["speech", "ocr", "objects"]
DETECTOR = "detector"  # Name of the detector among the side models, and value of `objects`.


class GrammarLimits(BaseModel):
    """Limits of one regular expression, choice, grammar or JSON schema that is compiled.

    The defaults allow everything that OpenAI's published limits for structured outputs allow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_bytes: Count = 2 * MiB  # Maximum bytes of all JSON schemas of a request.
    regex_bytes: Count = 4096
    grammar_bytes: Count = 1 << 16

    # Maximum characters of all names, enum values, constants and choices.
    characters: Count = 120_000
    properties: Count = 5000  # Maximum properties and definitions of a JSON schema.
    # Maximum choices, enum values and branches of a JSON schema, or alternatives and rules of a
    # grammar.
    alternatives: Count = 5000
    nesting: Count = 64  # Maximum levels of a JSON schema, or nested groups in a grammar.
    # Maximum length of a regular expression's longest match, if each + and * repeats once.
    repetitions: Count = 10_000
    # Maximum characters in all character classes of a regular expression or grammar.
    alphabet: Count = 1024

    # Maximum CPU seconds and bytes of memory to compile one grammar.
    cpu_s: float = Field(default=60, gt=0)
    memory_bytes: Count = 1024 * MiB

    # Maximum bytes of one compiled grammar.
    compiled_bytes: Count = 128 * MiB

    # Maximum milliseconds to find the tokens that a grammar allows next (mean over 48 tokens).
    mask_ms: float = Field(default=20, gt=0)
    # Maximum concurrent processes that compile grammars, for each API process.
    processes: Count = 4


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BINDSERVE_", frozen=True, extra="forbid")

    model: Path  # Folder that `bindserve convert` or `bindserve train export` wrote.
    config: Path | None = None  # YAML file with any of these settings.

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    # HOST:PORT of a second listener with the protocol of Weaviate's module multi2vec-bind, without
    # API keys.
    weaviate: str | None = None
    served_model_name: str | None = None  # Model name in requests. Default: the folder's name.
    vllm_args: Annotated[tuple[str, ...], NoDecode] = ()  # Flags of `vllm serve`.

    # Serve the web page at `/`. Its static files need no API key.
    page: bool = False
    page_examples: Path | None = None  # Folder with files that the page offers as examples.

    # Print one line of JSON per request instead of uvicorn's access log line.
    request_log: bool = False

    # Retrieval cache: a folder, URLs of services, or "none". Default: the model's own cache.
    cache: str | None = None
    # If the cache fails: "off" answers without it, "refuse" rejects the request with 503.
    cache_policy: Literal["off", "refuse"] = "refuse"
    cache_token_file: Path | None = None  # File with the bearer token of the retrieval services.
    # Device that searches a cache folder. "auto": a GPU if present.
    cache_device: Literal["auto", "cpu", "cuda"] = "auto"
    # GPU memory for the vectors of the cache, in each API process. Default: half of the free
    # memory. The engine gets the memory that the caches and the encoders leave, unless
    # --gpu-memory-utilization is given.
    cache_gpu_bytes: Count | None = None
    # Maximum seconds for one request to a retrieval service, including its retries.
    cache_timeout_s: float = Field(2, gt=0)

    # File with one key per line. All paths except the health checks then need a key.
    api_key_file: Path | None = None
    # File with the operator's key. Only this key may then read /metrics. It opens no other path.
    metrics_key_file: Path | None = None
    # Allow a server without API keys at an address that other machines can reach.
    no_auth: bool = False
    # Requests per minute of one API key, in each process. 0: no limit.
    key_requests_per_minute: int = Field(0, ge=0)
    # Concurrent requests of one API key, in each process. 0: no limit.
    key_concurrent: int = Field(0, ge=0)
    # Addresses or networks of proxies. For a request from one of them, the server reads the
    # client's address from the header X-Forwarded-For.
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    # vLLM fields that clients may set.
    allow_fields: Annotated[tuple[EngineField, ...], NoDecode] = ()

    allow_media_urls: bool = False  # Fetch http(s) URLs that clients send, from public addresses.
    # Maximum seconds to fetch one URL, including redirects.
    fetch_timeout_s: float = Field(10, gt=0)
    fetch_waiting: Count = 128  # Maximum concurrent fetches of URLs; status 503 above it.

    # Maximum concurrent requests in one process; above it, requests get status 503. 0: no limit.
    # One client (an API key or, on a server without keys, an address) may use half of this limit,
    # and half of each other limit that all clients share. The default is large enough for one
    # client to fill the engine: its half is four times vLLM's default number of running sequences.
    max_requests: int = Field(2048, ge=0)
    # Maximum bytes of one request's URL and headers; status 431 above it.
    max_header_bytes: Count = 1 << 16
    max_header_count: Count = 100  # Maximum number of headers of one request; status 431 above it.
    # Maximum seconds to receive a request's headers; status 408 after that.
    header_timeout_s: float = Field(10, gt=0)
    # Minimum bytes per second of an arriving body, after its first 10 seconds; status 408 below it.
    body_min_rate: Count = 1024
    # Maximum seconds to receive a request's body; status 408 after that.
    body_timeout_s: float = Field(600, gt=0)
    # Maximum seconds in which a client reads 64 KiB of its response. If it takes longer, the server
    # closes the connection.
    send_timeout_s: float = Field(30, gt=0)
    max_body_bytes: Count = 64 * MiB  # Maximum bytes of one request body in memory.
    # Maximum bytes of all request bodies in memory; status 503 above it.
    max_held_bytes: Count = 1024 * MiB
    # Maximum bytes of one multipart request, which is written to disk.
    max_upload_bytes: Count = 512 * MiB
    # Maximum concurrent multipart requests; further ones wait 10 s, and then get status 503.
    max_uploads: Count = 64
    upload_folder: Path | None = None  # Folder for uploads. Default: the system's temporary folder.
    owner_files: Count = 1000  # Maximum number of files of one API key in /v1/files.
    owner_bytes: Count = 2048 * MiB  # Maximum bytes of the files of one API key.
    stored_bytes: Count = 16384 * MiB  # Maximum bytes of the files of all API keys.
    file_age_s: Count = 30 * 24 * 3600  # Maximum and default lifetime of a file, in seconds.
    # Folder of clients' files and batches, where they stay when the server stops. Default: the
    # upload folder, from which the server deletes them when it stops.
    state_folder: Path | None = None
    owner_batches: Count = 16  # Maximum unfinished batches of one API key; status 429 above it.
    # Maximum number of requests of batches that run at the same time, in each process.
    batch_requests: Count = 16
    max_batch_bytes: Count = 200 * MiB  # Maximum bytes of the input file of a batch.
    max_batch_lines: Count = 50_000  # Maximum number of requests in one batch.
    max_batch_line_bytes: Count = 32 * MiB  # Maximum bytes of one request of a batch.
    max_batch_output_bytes: Count = 2048 * MiB  # Maximum bytes of the results of one batch.
    max_attachments: Count = 16  # Maximum number of attachments in one request.
    max_n: Count = 16  # Maximum number of choices in one request.
    max_tokens: Count = 8192  # Maximum number of generated tokens in one choice.
    max_context_tokens: Count = 1024  # Maximum number of tokens of one text for the Input slot.
    grammar: GrammarLimits = GrammarLimits()  # Limits of structured outputs.
    max_cache_top_k: Count = 1000  # Maximum number of neighbors that one request may use.
    max_embedding_inputs: Count = 256  # Maximum number of inputs in one request to /v1/embeddings.
    max_vectorize_inputs: Count = 4096  # Maximum number of inputs in one request of Weaviate.
    limits: Limits = Limits()  # Size limits of files, for each modality.
    # The channel of a sound that is encoded. first: channel 0, as in the released model. auto:
    # channel 0, unless it is silent and another channel is not. mean: the mean of all channels.
    channels: Channels = "auto"
    # Whether to rotate pictures by their EXIF orientation, which the released model ignores.
    exif_orientation: bool = False

    # If the engine makes no step for this many seconds while requests run, /ready responds with
    # 503. If the encoding service sends no message for this long, waiting encoding jobs also get
    # 503.
    stall_s: float = Field(30, gt=0)
    # The parent process restarts an engine or encoding service that makes no progress for this many
    # seconds after its start-up. On a CPU, one step with a long prompt can take minutes.
    stall_restart_s: float = Field(300, gt=0)
    max_windows: Count = 16_384  # Maximum number of windows (imagebind.windows) in one request.
    max_window_file_seconds: Count = 4 * 3600  # Maximum length of a file that is cut into windows.
    max_window_file_bytes: Count = 512 * MiB  # Maximum bytes of a file that is cut into windows.
    # Maximum number of files that are cut into windows at the same time; status 503 above it.
    window_files: Count = 4

    decode_workers: Count = min(4, os.cpu_count() or 1)  # Number of decoding processes.
    # Maximum CPU seconds to decode one file. The limit of elapsed time is 4 times as long.
    decode_timeout_s: float = Field(30, gt=0)
    decode_memory_bytes: Count = 2048 * MiB  # Maximum memory of one decoding process.
    decode_waiting: Count = 512  # Number of files that may wait for a decoding process.

    encode_device: str = "auto"  # Device of the encoders. "auto": the GPU if there is one.
    # Source of the encoders' weights. "dummy": random weights, to measure speed.
    encode_load_format: Literal["auto", "dummy"] = "auto"
    encode_threads: Count = max(1, (os.cpu_count() or 1) // 2)
    # Dtype of the encoders' weights and activations. auto: bfloat16 on a GPU that supports it,
    # float32 on a CPU.
    encode_dtype: DtypeSetting = "auto"
    encode_graphs: bool = True  # Run the encoders' batches as CUDA graphs on a GPU.
    # Maximum number of images in one batch of an encoder. Other files count by their number of
    # tokens (an image has 257). Larger batches leave less GPU memory for the engine.
    encode_batch: Count = 32
    encode_waiting: Count = 512  # Number of tensors that may wait for the encoders.
    # Maximum bytes of the result cache, which stores embeddings by the hash of the file.
    embedding_cache_bytes: int = Field(256 * MiB, ge=0)
    # Folder of a Whisper model in CTranslate2's format: enables the expert `speech` and
    # /v1/audio/transcriptions.
    speech_model: Path | None = None
    speech_device: Literal["auto", "cpu", "cuda"] = "auto"
    ocr: bool = False  # Enables the expert `ocr`, which reads the text in pictures and videos.
    ocr_device: Literal["auto", "cpu", "cuda"] = "auto"
    # Enables the expert `objects`, which names the things in pictures and videos. "detector": the
    # detector of the setting `detector` does this. Otherwise the folder of an image classifier of
    # transformers.
    objects: str | None = None
    objects_device: Literal["auto", "cpu", "cuda"] = "auto"  # Device of the image classifier.
    # File with the labels that the detector looks for, one per line. Default: common things
    # (model_ext/experts/everyday.txt). A classifier has its own labels.
    objects_labels: Path | None = None
    # Minimum score of a label. Default: the detector's, or 0.2 for a classifier.
    objects_threshold: float | None = Field(None, ge=0, le=1)
    voice: bool = False  # Enables /v1/audio/speech, with an English voice.
    # The experts of requests that do not select experts with imagebind.experts.
    experts: Annotated[tuple[Expert, ...], NoDecode] = ()
    # If an expert fails or is too slow: "off" answers without it, "refuse" rejects the request with
    # 503.
    expert_policy: Literal["off", "refuse"] = "off"
    expert_timeout_s: float = Field(30, gt=0)  # Maximum seconds for all experts of one request.
    # Folder of a detector (bindserve's own, OWLv2, Grounding DINO or OmDet-Turbo): enables
    # imagebind.ground and /v1/detections.
    detector: Path | None = None
    detector_device: Literal["auto", "cpu", "cuda"] = "auto"
    # Maximum seconds to ground an answer (which is then returned without grounding), and to answer
    # a request to /v1/detections.
    ground_timeout_s: float = Field(20, gt=0)
    # Maximum number of nouns of one answer, or of queries in one request, that the detector looks
    # for.
    max_ground_nouns: Count = 64
    # Maximum number of pictures and videos of one request in which the detector looks for things.
    max_ground_pictures: Count = 4
    # Maximum number of requests that wait for one side model (model_ext/side.py); status 503 above
    # it.
    side_waiting: Count = 64
    # Maximum bytes of the stored results of one side model, in each API process.
    side_cache_bytes: int = Field(64 * MiB, ge=0)
    # Number of CPU threads of one side model.
    side_threads: Count = max(1, (os.cpu_count() or 1) // 2)
    # Decoder that draws pictures as answers: a folder, or "model" for MODEL/decoders/image.
    # Default: none, and requests for pictures get 400.
    decoder: str | None = None
    decoder_device: str = "auto"  # Device of the decoder. "auto": the GPU if there is one.
    decoder_batch: Count = 8  # Maximum number of pictures that are drawn at the same time.
    max_pictures: Count = 4  # Maximum number of pictures in one request.
    max_picture_pixels: Count = 1024 * 1024  # Maximum width times height of a picture.
    max_picture_steps: Count = 100  # Maximum number of steps in which a picture is drawn.
    # Let API keys share the results of equal files. A client can then find out from the response
    # time whether another client has sent a file.
    share_results: bool = False

    @field_validator("vllm_args", "allow_fields", "trusted_proxies", "experts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Split an environment variable's string into items as a shell does."""
        return shlex.split(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_experts(self) -> Self:
        for name in self.experts:
            if name not in self.enabled_experts:
                raise ValueError(f"the setting experts has {name}, which is not enabled")
        if self.objects == DETECTOR and self.detector is None:
            raise ValueError(f"the setting objects is {DETECTOR}, but the server has no detector")
        if self.objects_labels is not None and self.objects != DETECTOR:
            raise ValueError(f"the setting objects_labels needs the setting objects: {DETECTOR}")
        return self

    @field_validator("limits", mode="before")
    @classmethod
    def _check_limit_names(cls, value: Any) -> Any:
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
        # pydantic passes these two sources, which the server does not use
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
        """Load the settings from all sources. A flag that is None has no effect.

        Raises ValidationError: for a bad value.
        Raises FileNotFoundError: for a missing --config file.
        """
        return cls(**{name: value for name, value in flags.items() if value is not None})

    @property
    def read_options(self) -> ReadOptions:
        """How files are read, unless a request sets other options."""
        return ReadOptions(channels=self.channels, orient=self.exif_orientation)

    @property
    def max_file_bytes(self) -> int:
        """The maximum bytes of an attachment of any modality."""
        return max(self.limits.bytes_of(modality) for modality in ENCODER_OF)

    @property
    def enabled_experts(self) -> tuple[Expert, ...]:
        """The experts that requests can select."""
        enabled: dict[Expert, bool] = {
            "speech": self.speech_model is not None,
            "ocr": self.ocr,
            "objects": self.objects is not None,
        }
        return tuple(name for name in enabled if enabled[name])

    @property
    def classifier_folder(self) -> Path | None:
        """The folder of the image classifier, or None if the server has none."""
        if self.objects is None or self.objects == DETECTOR:
            return None
        return Path(self.objects)

    @property
    def decoder_folder(self) -> Path | None:
        """The folder of the decoder of pictures, or None if pictures are not enabled."""
        if self.decoder is None:
            return None
        return self.model / DECODER if self.decoder == "model" else Path(self.decoder)

    @property
    def name(self) -> str:
        """The model's name in requests."""
        return self.served_model_name or self.model.resolve().name
