"""The list of all side models, and which of them the settings enable.

This module imports no side model: only the side model's process imports and loads it.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from model_ext.errors import ConfigError
from model_ext.experts.labels import read_labels
from model_ext.side import SideModel
from server.process.supervisor import Program
from server.settings import DETECTOR, Settings

MODULE = "server.side.service"
Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Side:
    name: str  # Name of the side model in messages, metrics and /ready.
    load: str  # MODULE:FUNCTION. The function loads the model from its options.
    # Returns the options of `load`, or None if the settings do not enable the side model.
    options: Callable[[Settings], Options | None]
    extra: str = ""  # The extra of this project that installs the side model's libraries.

    def open(self, settings: Settings) -> SideModel:
        """Load the model. Raises OSError. Raises ConfigError: when its libraries are missing."""
        module, function = self.load.split(":")
        options = self.options(settings)
        assert options is not None
        try:
            load = getattr(importlib.import_module(module), function)
        except ImportError as error:
            raise ConfigError(f"{error}; install bindserve[{self.extra}]") from None
        return cast(SideModel, load(**options))


def picture_options(settings: Settings) -> Options | None:
    """The options of the decoder that draws pictures."""
    if settings.decoder_folder is None:
        return None
    return {
        "folder": settings.decoder_folder,
        "device": settings.decoder_device,
        "threads": settings.side_threads,
        "max_batch": settings.decoder_batch,
        "max_pixels": settings.max_picture_pixels,
    }


def speech(settings: Settings) -> Options | None:
    if settings.speech_model is None:
        return None
    return {
        "folder": str(settings.speech_model),
        "device": settings.speech_device,
        "threads": settings.side_threads,
    }


def ocr(settings: Settings) -> Options | None:
    if not settings.ocr:
        return None
    return {"device": settings.ocr_device, "threads": settings.side_threads}


def objects(settings: Settings) -> Options | None:
    """The options of the image classifier. A server whose detector is the expert has none."""
    if settings.classifier_folder is None:
        return None
    return {
        "folder": str(settings.classifier_folder),
        "device": settings.objects_device,
        "threads": settings.side_threads,
        "threshold": settings.objects_threshold,
    }


def detector(settings: Settings) -> Options | None:
    if settings.detector is None:
        return None
    labels = read_labels(settings.objects_labels) if settings.objects == DETECTOR else ()
    return {
        "folder": str(settings.detector),
        "device": settings.detector_device,
        "threads": settings.side_threads,
        "max_queries": max(settings.max_ground_nouns, len(labels)),
    }


def voice(settings: Settings) -> Options | None:
    return {"threads": settings.side_threads} if settings.voice else None


PICTURES = Side("pictures", "model_ext.decoders.drawer:load", picture_options, "images")
SIDES: tuple[Side, ...] = (
    Side("speech", "model_ext.experts.speech:load", speech, "speech"),
    Side("ocr", "model_ext.experts.ocr:load", ocr, "ocr"),
    Side("objects", "model_ext.experts.objects:load", objects),
    Side(DETECTOR, "model_ext.grounding.side:load", detector, "ground"),
    Side("voice", "model_ext.voice:load", voice, "voice"),
    PICTURES,
)


def enabled(settings: Settings) -> Iterator[Side]:
    """Yield the side models that the settings enable."""
    return (side for side in SIDES if side.options(settings) is not None)


def named(name: str) -> Side:
    (side,) = (side for side in SIDES if side.name == name)
    return side


def programs(settings: Settings) -> tuple[Program, ...]:
    """Return the programs that the supervisor runs for the enabled side models."""
    return tuple(
        Program(f"the side model {side.name}", MODULE, arguments=(side.name,))
        for side in enabled(settings)
    )


def socket_path(scratch: Path, name: str) -> Path:
    """The socket of a side model, in the server's private folder."""
    return scratch / f"side-{name}.sock"
