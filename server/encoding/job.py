"""Run a job (one file to embed) in one process, and read its answer in another: `answer` runs the
job, and `unpack` reads the answer.

Both the encoding service and Ray use these functions.

`answer` raises no errors: it returns every error in the answer.
"""

import logging

import numpy as np

from server.encoding.embedder import Embedder, Report
from server.encoding.messages import Answer, Job, Packet
from server.errors import InternalError, RequestError
from server.media.blob import Blob
from server.media.embedded import Embedded
from server.metrics import observe_stage
from server.process.error_message import MessageError

logger = logging.getLogger(__name__)


async def answer(embedder: Embedder, job: Job, blob: Blob) -> Packet:
    """Embed the file. The returned answer contains the embedding or the error. Unexpected errors
    are also logged.
    """
    report, error = Report(), None
    embedded = Embedded(job.modality, np.empty(0, np.float32))
    try:
        embedded = await embedder.embed(job, blob, report)
    except RequestError as failure:
        error = Answer.describe(failure)
    except Exception:
        logger.exception("a file of modality %s could not be embedded", job.modality)
        error = Answer.describe(InternalError("the server failed to embed the file"))
    message = Answer(
        cached=report.cached,
        seconds=report.seconds,
        failed=report.failed,
        error=error,
        modality=embedded.modality,
        notes=embedded.notes,
        prenorm=embedded.prenorm is not None,
    )
    return Packet(message, embedded.vectors)


def unpack(packet: Packet) -> tuple[Embedded, bool]:
    """Read an answer.

    Returns the result, and whether it came from the result cache. Records the stages of the job.

    Raises the answer's error: MediaError, BadRequest, Unavailable or InternalError.
    Raises MessageError: when the packet is not an answer.
    """
    message = answer_of(packet)
    embedded = Embedded.of(message.modality, packet.numbers, message.notes, prenorm=message.prenorm)
    return embedded, message.cached


def answer_of(packet: Packet) -> Answer:
    """Return the message of an answer, and record its stages. Raises its error, and MessageError:
    when the packet is not an answer.
    """
    message = packet.message
    if not isinstance(message, Answer):
        raise MessageError(f"expected an Answer, got {type(message).__name__}")
    observe(message)
    message.raise_error()
    return message


def observe(message: Answer) -> None:
    """Record the stages of the job, which ran one after the other and ended just now."""
    remaining = sum(message.seconds.values())
    for stage, seconds in message.seconds.items():
        remaining -= seconds
        failed = stage == message.failed
        observe_stage(stage, message.modality, seconds, failed=failed, ago=remaining)
