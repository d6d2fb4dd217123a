"""The two ends of a job (one file to embed): `answer` runs it, `unpack` reads the answer.

The encoding service's socket and Ray both use these functions. The side that runs the job raises
nothing: every error is sent in the answer.
"""

import logging

import numpy as np

from model_ext.conditioning import Vector
from server.encoding.embedder import Embedder, Report
from server.encoding.messages import Answer, Job, MessageError, Packet
from server.errors import InternalError, RequestError
from server.media.blob import Blob
from server.metrics import observe_stage

logger = logging.getLogger(__name__)


async def answer(embedder: Embedder, job: Job, blob: Blob) -> Packet:
    """Embed the file. An error is returned in the answer; an unexpected error is also
    logged here.
    """
    report, embedding, error = Report(), np.empty(0, np.float32), None
    try:
        embedding = await embedder.embed(job, blob, report)
    except RequestError as failure:
        error = Answer.describe(failure)
    except Exception:
        logger.exception("a file of modality %s could not be embedded", job.modality)
        error = Answer.describe(InternalError("the server failed to embed the file"))
    return Packet(Answer(report.cached, report.seconds, report.failed, error), embedding)


def unit(numbers: Vector) -> Vector:
    """The unit embedding (D,) of an answer's numbers (D + 1,)."""
    return numbers[:-1]


def scaled(numbers: Vector) -> Vector:
    """ImageBind's own output (D,), which has not unit length, of an answer's numbers (D + 1,)."""
    embedding: Vector = numbers[:-1] * numbers[-1]
    return embedding


def unpack(packet: Packet, modality: str) -> tuple[Vector, bool]:
    """Read an answer: the embedding with its length (D + 1,), and whether it came from the result
    cache.

    Records the stages of the job, which ran one after the other and ended just now.

    Raises the answer's error: MediaError, BadRequest, Unavailable or InternalError.
    Raises MessageError: when the packet is not an answer.
    """
    message = packet.message
    if not isinstance(message, Answer):
        raise MessageError(f"expected an Answer, got {type(message).__name__}")
    remaining = sum(message.seconds.values())
    for stage, seconds in message.seconds.items():
        remaining -= seconds
        failed = stage == message.failed
        observe_stage(stage, modality, seconds, failed=failed, ago=remaining)
    message.raise_error()
    return packet.numbers, message.cached
