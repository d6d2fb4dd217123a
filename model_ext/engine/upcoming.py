"""Send the embeddings of waiting requests to the worker, together with a step's new requests.

If the engine runs as many requests as it may, the others wait. When the rows of a new request are
computed, the same batch has room for the rows of the next waiting requests. They cost little time,
because the computation mostly reads weights (docs/decisions/0002). `early_rows.py` keeps these
rows until their requests arrive. Only Model Runner V2 uses them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.output import NewRequestData, SchedulerOutput
from vllm.v1.request import Request

from model_ext.conditioning import EXTRA_ARG
from model_ext.engine.arrival import MAX_BATCH


@dataclass
class LastNewRequest(NewRequestData):
    """The last of a step's new requests, and the packed embeddings of the next waiting requests."""

    upcoming: tuple[bytes, ...] = ()


class Upcoming:
    """Chooses the waiting requests. It belongs to the scheduler."""

    def __init__(self) -> None:
        self._sent: set[str] = set()  # the ids of the requests whose embeddings were sent last

    def attach(self, output: SchedulerOutput, waiting: Iterable[Request]) -> None:
        """Fill the batch of the step's new requests with waiting requests, in their order.

        Does nothing if the rows of all new requests have been computed before.
        """
        new = output.scheduled_new_reqs
        missing = [each for each in new if packed_embedding(each) and each.req_id not in self._sent]
        if not missing:
            return
        packed = {
            request.request_id: embedding
            for request in islice(waiting, -len(missing) % MAX_BATCH)
            if (embedding := packed_embedding(request))
        }
        self._sent = set(packed)
        if packed:
            new[-1] = LastNewRequest(**vars(new[-1]), upcoming=tuple(packed.values()))


def packed_embedding(request: NewRequestData | Request) -> bytes | None:
    """Return the request's packed embedding, or None if it has none, or has a LoRA adapter."""
    params: SamplingParams | None = request.sampling_params
    if params is None or not params.extra_args or request.lora_request is not None:
        return None
    packed: bytes | None = params.extra_args.get(EXTRA_ARG)
    return packed if isinstance(packed, bytes) else None
