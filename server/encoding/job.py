"""A job's two ends, the same for a socket and for Ray: `answer` runs it, `unpack` reads the answer.

Neither side raises what the other side cannot see: every error becomes a part of the answer.
"""

import logging

import numpy as np

from model_ext.conditioning import Vector
from server.encoding.embedder import Embedder, Report
from server.encoding.messages import Answer, MessageError, Packet
from server.errors import InternalError, RequestError
from server.media.blob import Blob
from server.metrics import observe_stage

logger = logging.getLogger(__name__)


async def answer(embedder: Embedder, modality: str, blob: Blob) -> Packet:
    """Embed the file. Errors become the answer's; unexpected ones are logged here."""
    report, embedding, error = Report(), np.empty(0, np.float32), None
    try:
        embedding = await embedder.embed(modality, blob, report)
    except RequestError as failure:
        error = Answer.describe(failure)
    except Exception:
        logger.exception("a file of modality %s could not be embedded", modality)
        error = Answer.describe(InternalError("the server failed to embed the file"))
    return Packet(Answer(report.cached, report.seconds, report.failed, error), embedding)


def unpack(packet: Packet, modality: str) -> tuple[Vector, bool]:
    """The unit embedding (D,), and whether it came from the result cache.

    Notes the stages of the job, which ran one after the other and ended just now. Raises the
    answer's error (MediaError, BadRequest, Unavailable, InternalError), and MessageError when the
    packet is no answer.
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
