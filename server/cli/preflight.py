"""Check the address and the API keys before `serve` starts child processes.

The child processes import vLLM, which takes many seconds, and check everything again. This module
reads only the vLLM flags for the server's address and keys.
"""

import contextlib
import ipaddress
import socket
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path

from model_ext.experts.labels import read_labels
from model_ext.grounding.folders import model_type
from model_ext.hub_folder import check_classifier
from server.engine.exposure import check_exposure, weaviate_address
from server.settings import Settings

# The files that describe a decoder of pictures: a flow, or a pipeline of diffusers.
DECODER_FILES = ("config.json", "model_index.json")


def check(settings: Settings) -> None:
    """Check the API keys, and that the port is free. Create the state folder.

    Raises UsageError: when other machines can reach the server and it has no key. KeyFileError:
    when a key file has no key. OSError, ConfigError: when a key file, the port, a side model or the
    folder cannot be used.
    """
    args = listening_flags(settings)
    # not checked here, because vLLM's --config file may set the host, the port and keys
    if args.config is None:
        check_exposure(args, settings)
    if settings.weaviate is not None:
        host, port = weaviate_address(settings)
        check_port(host, str(port))
    check_side_models(settings)
    check_decoder(settings)
    if settings.state_folder is not None:
        settings.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_keys("--api-key-file", settings.api_key_file)
    check_keys("--metrics-key-file", settings.metrics_key_file)
    if args.config is None and args.uds is None:
        check_port(args.host, args.port)


def check_keys(option: str, file: Path | None) -> None:
    """Read the file of the option, if there is one. Raises OSError, KeyFileError."""
    if file is None:
        return
    from server.api.middleware.auth import read_keys

    try:
        read_keys(file)
    except OSError as error:
        raise OSError(f"{option} {file}: {error.strerror}") from None


def check_side_models(settings: Settings) -> None:
    """Check that the side models' libraries are installed and their folders have models. Raises
    OSError, ConfigError.
    """
    folder = settings.speech_model
    if folder is not None and not (folder / "model.bin").is_file():
        raise OSError(f"--speech-model {folder}: not a Whisper model of CTranslate2 (no model.bin)")
    if settings.classifier_folder is not None:
        check_classifier(settings.classifier_folder)
    if settings.objects_labels is not None:
        read_labels(settings.objects_labels)
    if settings.detector is not None:
        model_type(settings.detector)
    for enabled, library, extra in (
        (folder is not None, "faster_whisper", "speech"),
        (settings.ocr, "rapidocr", "ocr"),
        (settings.voice, "hibari", "voice"),
    ):
        if enabled and find_spec(library) is None:
            raise OSError(f"the package {library} is missing; install bindserve[{extra}]")


def check_decoder(settings: Settings) -> None:
    """Check that the folder of the decoder of pictures has a decoder. Raises OSError."""
    folder = settings.decoder_folder
    if folder is not None and not any((folder / name).is_file() for name in DECODER_FILES):
        raise OSError(f"--decoder {settings.decoder}: {folder} has no {' or '.join(DECODER_FILES)}")


def listening_flags(settings: Settings) -> Namespace:
    """Parse vLLM's flags host, port, uds, api_key and config.

    The settings are the defaults of host and port.
    """
    parser = ArgumentParser(prog="bindserve serve MODEL --", add_help=False)
    for name, default in (("host", settings.host), ("port", str(settings.port))):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--uds")
    parser.add_argument("--config")
    parser.add_argument("--api-key", "--api_key", nargs="+")
    args, _ = parser.parse_known_args(list(settings.vllm_args))
    return args


def check_port(host: str, port: str) -> None:
    """Check that the server can listen on the address, by listening for a moment.

    Raises OSError: when it cannot. The message names the address.
    """
    if not port.isdecimal():
        return  # vLLM's parser reports a bad port
    family = socket.AF_INET
    with contextlib.suppress(ipaddress.AddressValueError):
        ipaddress.IPv6Address(host)
        family = socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
            listener.listen(1)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OSError(
            f"cannot listen on port {port} of {host or 'all addresses'}: {reason}; free it, or "
            "give another --port or --host"
        ) from None
