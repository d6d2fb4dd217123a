"""The pictures that the detector searches for one request: its pictures, and frames of its videos.

The decoding processes read the files. Shapes: F frames, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from model_ext.imagebind.preprocess.views import PICTURES
from model_ext.side import Array
from server.conditioning.conditioner import Conditioner
from server.encoding.view import View
from server.errors import BadRequest, RequestError
from server.media.attachments import Attachment
from server.media.blob import Blob
from server.metrics import stage

MODALITIES = ("image", "video")


class Views(Protocol):
    """The method of `server.encoding.client.EncodingClient` that this module uses."""

    async def view(self, view: str, modality: str, content: Blob) -> View: ...


@dataclass(frozen=True, slots=True)
class Pictures:
    """A picture, turned upright, or some frames of a video."""

    param: str  # The part's position in the request, e.g. `input[0]`.
    frames: Array  # (F, H, W, 3) uint8; large pictures are scaled down.
    width: int  # In pixels, before scaling.
    height: int
    times: tuple[float, ...] = ()  # time of each frame of a video, in seconds

    @property
    def scale(self) -> tuple[float, float]:
        """Width and height of one pixel of a frame, in pixels of the uploaded picture."""
        return self.width / self.frames.shape[2], self.height / self.frames.shape[1]


def with_pictures(
    attachments: Sequence[Attachment], max_count: int, param: str
) -> list[Attachment]:
    """Return the attachments that are pictures or videos.

    `param`: the field that asks for the search. Raises BadRequest: when there are none or too many.
    """
    files = [each for each in attachments if each.modality in MODALITIES]
    if not files:
        raise BadRequest(
            "there is no picture or video to search; attach one, or leave this field out",
            param=param,
        )
    if len(files) > max_count:
        raise BadRequest(f"more than {max_count} pictures and videos to search", param=param)
    return files


async def read_pictures(file: Attachment, conditioner: Conditioner, views: Views) -> Pictures:
    """Download the file if it is a link, and decode its pictures.

    Raises a RequestError that names the attachment.
    """
    try:
        content = await conditioner.fetch(file)
        with stage("view", file.modality):
            view = await views.view(PICTURES, file.modality, content)
    except RequestError as error:
        raise type(error)(error.message, param=error.param or file.param, code=error.code) from None
    if view.array.ndim != 4:
        raise BadRequest("the file has no pictures", param=file.param)
    count, height, width = (int(size) for size in view.array.shape[:3])
    times = tuple(float(view.notes.get(f"time_{index}", 0)) for index in range(count))
    return Pictures(
        file.param,
        view.array,
        int(float(view.notes.get("width", width))),
        int(float(view.notes.get("height", height))),
        times if file.modality == "video" else (),
    )
