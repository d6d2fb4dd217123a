"""Experts: side models that recognize text in a request's attachments while the encoders embed
them.

The speech expert gets whole sounds (also of videos), and the OCR expert gets pictures and frames.
The decoding processes of the encoding service read the files. This module does not depend on HTTP
or on prompts.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from model_ext.experts.texts import spoken, written
from model_ext.side import Array, Json, SideData
from server.conditioning.fetches import Fetches
from server.conditioning.first_error import all_results
from server.conditioning.options import ExpertPart
from server.errors import BadRequest, RequestError, Unavailable
from server.media.attachments import Attachment
from server.media.blob import Blob
from server.settings import Settings
from server.side.client import SideClient

SOUND = ".sound"  # suffix of `param` of a video's sound track that is a separate attachment


@dataclass(frozen=True, slots=True)
class Kind:
    view: str  # the view of a file that the expert gets (model_ext.imagebind.preprocess.views)
    modalities: tuple[str, ...]  # modalities of the attachments that the expert gets
    array: str  # name of the view's array in the expert's tasks
    text: Callable[[Json], str]  # returns the text of a result
    flag: str  # the option that enables the expert


KINDS: Mapping[str, Kind] = {
    "speech": Kind("sound", ("audio", "video"), "samples", spoken, "--speech-model"),
    "ocr": Kind("pictures", ("image", "video"), "pictures", written, "--ocr"),
}


class DecodeView(Protocol):
    """The method of `server.encoding.client.EncodingClient` that this module uses."""

    async def decode(self, view: str, modality: str, content: Blob) -> Array: ...


class Experts:
    def __init__(
        self,
        sides: Mapping[str, SideClient],
        encoders: DecodeView,
        *,
        default: Sequence[str] = (),
        policy: Literal["off", "refuse"] = "off",
        timeout_s: float = 30,
    ) -> None:
        """`default`: the experts of requests that name none. `policy`: if an expert fails or needs
        more than `timeout_s`, `off` answers without it and `refuse` rejects the request.
        """
        self._sides, self._encoders = sides, encoders
        self._default, self._policy, self._timeout_s = tuple(default), policy, timeout_s

    @classmethod
    def of(cls, settings: Settings, sides: Mapping[str, SideClient], encoders: DecodeView) -> Self:
        return cls(
            sides,
            encoders,
            default=settings.experts,
            policy=settings.expert_policy,
            timeout_s=settings.expert_timeout_s,
        )

    def chosen(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """Return the experts of a request with `imagebind.experts: names` (None: the default
        experts).

        Raises BadRequest: when the server does not have one of them.
        """
        chosen = self._default if names is None else tuple(dict.fromkeys(names))
        for name in chosen:
            if name not in self._sides:
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
        kind = KINDS[name]
        # If this expert is too slow, the download must continue, because the encoders need it too.
        content = await asyncio.shield(fetches.content(attachment))

        async def load() -> SideData:
            view = await self._encoders.decode(kind.view, attachment.modality, content)
            return SideData({}, {kind.array: view})

        result = await self._sides[name].cached(await content.digest(), {}, load)
        return kind.text(result.document)
