"""Experts: side models that describe a request's attachments in texts, while the encoders embed
them.

The speech expert gets whole sounds (also of videos), and the experts for text and objects get
pictures and frames. The decoding processes of the encoding service read the files. This module does
not depend on HTTP or on prompts.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from model_ext.experts.labels import read_labels
from model_ext.experts.texts import labelled, spoken, written
from model_ext.grounding.folders import takes
from model_ext.side import Array, Json, SideData
from server.conditioning.fetches import Fetches
from server.conditioning.first_error import all_results
from server.conditioning.options import ExpertPart
from server.errors import BadRequest, RequestError, Unavailable
from server.media.attachments import Attachment
from server.media.blob import Blob
from server.settings import DETECTOR, Settings
from server.side.client import SideClient
from server.side.detected_labels import DetectedLabels, EmbedText

SOUND = ".sound"  # suffix of `param` of a video's sound track that is a separate attachment


class Recognizer(Protocol):
    """How a side model turns a view of a file into a text."""

    @property
    def side(self) -> str:
        """The name of the side model."""
        ...

    async def task(self, view: Array) -> SideData:
        """Return the task of the side model. Raises a RequestError."""
        ...

    def text(self, result: Json) -> str:
        """Return the text of the task's result."""
        ...


@dataclass(frozen=True, slots=True)
class OwnModel:
    """Recognizes with a side model that is only for this expert, and has no options."""

    side: str
    array: str  # name of the view's array in the task
    texts: Callable[[Json], str]

    async def task(self, view: Array) -> SideData:
        return SideData({}, {self.array: view})

    def text(self, result: Json) -> str:
        return self.texts(result)


@dataclass(frozen=True, slots=True)
class Kind:
    view: str  # the view of a file that the expert gets (model_ext.imagebind.preprocess.views)
    modalities: tuple[str, ...]  # modalities of the attachments that the expert gets
    flag: str  # the option that enables the expert
    recognizer: Recognizer


SEEN = ("image", "video")
KINDS: Mapping[str, Kind] = {
    "speech": Kind(
        "sound", ("audio", "video"), "--speech-model", OwnModel("speech", "samples", spoken)
    ),
    "ocr": Kind("pictures", SEEN, "--ocr", OwnModel("ocr", "pictures", written)),
    "objects": Kind("pictures", SEEN, "--objects", OwnModel("objects", "pictures", labelled)),
}


class DecodeView(Protocol):
    """The method of `server.encoding.client.EncodingClient` that this module uses."""

    async def decode(self, view: str, modality: str, content: Blob) -> Array: ...


class ExpertEncoders(DecodeView, EmbedText, Protocol):
    """The methods of `server.encoding.client.EncodingClient` that a server's experts use."""


class Experts:
    def __init__(
        self,
        sides: Mapping[str, SideClient],
        encoders: DecodeView,
        *,
        default: Sequence[str] = (),
        policy: Literal["off", "refuse"] = "off",
        timeout_s: float = 30,
        objects: Recognizer | None = None,
    ) -> None:
        """`default`: the experts of requests that name none. `policy`: if an expert fails or needs
        more than `timeout_s`, `off` answers without it and `refuse` rejects the request. `objects`:
        replaces the image classifier of the expert `objects`.
        """
        self._sides, self._encoders = sides, encoders
        self._objects = objects
        self._default, self._policy, self._timeout_s = tuple(default), policy, timeout_s

    @classmethod
    def of(
        cls, settings: Settings, sides: Mapping[str, SideClient], encoders: ExpertEncoders
    ) -> Self:
        """Raises OSError, ConfigError: when the detector or the file with its labels is wrong."""
        return cls(
            sides,
            encoders,
            default=settings.experts,
            policy=settings.expert_policy,
            timeout_s=settings.expert_timeout_s,
            objects=detected_labels(settings, encoders),
        )

    def chosen(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """Return the experts of a request with `imagebind.experts: names` (None: the default
        experts).

        Raises BadRequest: when the server does not have one of them.
        """
        chosen = self._default if names is None else tuple(dict.fromkeys(names))
        for name in chosen:
            if self._recognizer(name).side not in self._sides:
                raise BadRequest(
                    f"this server has no expert {name}; the operator enables it with "
                    f"{KINDS[name].flag}",
                    param="imagebind.experts",
                    code="expert_not_enabled",
                )
        return chosen

    async def read(
        self, attachments: Sequence[Attachment], names: Sequence[str], fetches: Fetches
    ) -> list[ExpertPart]:
        """Run the experts `names` on all attachments that they can read, concurrently.

        Raises a RequestError that names the attachment, if the policy is `refuse`.
        """
        return await all_results(
            self._read(name, attachment, fetches)
            for attachment in attachments
            for name in names
            if attachment.modality in KINDS[name].modalities
            and not attachment.param.endswith(SOUND)
        )

    async def _read(self, name: str, attachment: Attachment, fetches: Fetches) -> ExpertPart:
        try:
            async with asyncio.timeout(self._timeout_s):
                text = await self._text(name, attachment, fetches)
        except TimeoutError:
            error: RequestError = Unavailable(
                f"the expert {name} needs more than {self._timeout_s:g} s", code="expert_timeout"
            )
        except RequestError as failure:
            error = failure
        else:
            return ExpertPart(param=attachment.param, expert=name, state="on", text=text)
        if self._policy == "refuse":
            param = error.param or attachment.param
            raise type(error)(error.message, param=param, code=error.code) from None
        return ExpertPart(param=attachment.param, expert=name, state="unavailable", text="")

    async def _text(self, name: str, attachment: Attachment, fetches: Fetches) -> str:
        kind, recognizer = KINDS[name], self._recognizer(name)
        # If this expert is too slow, the download must continue, because the encoders need it too.
        content = await asyncio.shield(fetches.content(attachment))

        async def load() -> SideData:
            view = await self._encoders.decode(kind.view, attachment.modality, content)
            return await recognizer.task(view)

        result = await self._sides[recognizer.side].cached(
            await content.digest(), {"expert": name}, load
        )
        return recognizer.text(result.document)

    def _recognizer(self, name: str) -> Recognizer:
        if name == "objects" and self._objects is not None:
            return self._objects
        return KINDS[name].recognizer


def detected_labels(settings: Settings, encoders: EmbedText) -> DetectedLabels | None:
    """Return the recognizer of a server whose detector is the expert `objects`."""
    if settings.objects != DETECTOR or settings.detector is None:
        return None
    return DetectedLabels(
        read_labels(settings.objects_labels),
        settings.objects_threshold,
        encoders if takes(settings.detector) == "vectors" else None,
    )
