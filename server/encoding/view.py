"""Decode a view of a file in the service, and read it in the client. A view is the whole sound of a
file, or its pictures.

Side models get views instead of files, because only decoding processes may parse clients' bytes.
"""

import logging
from dataclasses import dataclass, field
from typing import Protocol

from model_ext.imagebind.preprocess.options import Notes, ReadOptions
from model_ext.imagebind.preprocess.sample import Sample
from model_ext.side import Array, SideData
from server.encoding.embedder import Report
from server.encoding.job import answer_of
from server.encoding.messages import Answer, Job, Packet
from server.errors import InternalError, RequestError
from server.media.blob import Blob
from server.process import data_file
from server.process.error_message import MessageError

logger = logging.getLogger(__name__)

VIEW = "view"  # Name of the view's array in the file that carries it.


@dataclass(frozen=True, slots=True)
class View:
    array: Array
    notes: Notes = field(default_factory=dict)  # facts that the reader reports, e.g. {"width": 640}


class ViewDecoder(Protocol):
    """The method of `server.encoding.decode.pool.DecodePool` that this module uses."""

    async def decode(
        self, modality: str, blob: Blob, options: ReadOptions, client: str, view: str, /
    ) -> Sample: ...


async def answer_view(decoder: ViewDecoder, job: Job, blob: Blob) -> tuple[Packet, int | None]:
    """Decode the view. Returns the answer, and the descriptor of the file with the view. An error
    is returned in the answer.
    """
    report, error, descriptor = Report(cached=False), None, None
    notes: Notes = {}
    try:
        with report.stage("decode"):
            options = ReadOptions(**job.options)
            sample = await decoder.decode(job.modality, blob, options, job.client, job.view)
        notes = sample.notes
        data = SideData({}, {VIEW: sample.tensor.contiguous().numpy()})
        descriptor = await data_file.written(data)
    except RequestError as failure:
        error = Answer.describe(failure)
    except Exception:
        logger.exception("a view of a file of modality %s could not be decoded", job.modality)
        error = Answer.describe(InternalError("the server failed to decode the file"))
    answer = Answer(False, report.seconds, report.failed, error, job.modality, notes)
    return Packet(answer), descriptor


async def unpack_view(packet: Packet, descriptor: int | None) -> View:
    """Read the view from the answer. Records the duration of the stage. Raises the answer's error.

    Raises MessageError: when the answer has no view.
    """
    message = answer_of(packet)
    if descriptor is None:
        raise MessageError("an answer without a view")
    arrays = (await data_file.loaded(descriptor)).arrays
    if VIEW not in arrays:
        raise MessageError("an answer without a view")
    return View(arrays[VIEW], message.notes)
