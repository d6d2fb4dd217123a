"""The rows of waiting requests are computed with those of new ones, and used when they arrive."""

from types import SimpleNamespace

import pytest
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.output import NewRequestData, SchedulerOutput
from vllm.v1.request import Request

from model_ext.conditioning import EXTRA_ARG
from model_ext.engine.arrival import MAX_BATCH
from model_ext.engine.early_rows import MAX_EARLY_ROWS, EarlyRows
from model_ext.engine.upcoming import LastNewRequest, Upcoming, packed_embedding

LORA = LoRARequest("adapter", 1, "folder")


def packed(number: int) -> bytes:
    return b"%04d" % number


def waiting(number: int, lora: LoRARequest | None = None, **extra: object) -> Request:
    params = SamplingParams(extra_args=extra or {EXTRA_ARG: packed(number)})
    return Request(str(number), [1], params, None, lora_request=lora)


def step(*requests: Request) -> SchedulerOutput:
    """Return the output of a step in which these requests are new."""
    output = SchedulerOutput.make_empty()
    output.scheduled_new_reqs = [NewRequestData.from_request(each, ([],), [1]) for each in requests]
    return output


def upcoming_of(output: SchedulerOutput) -> tuple[bytes, ...]:
    last = output.scheduled_new_reqs[-1]
    return last.upcoming if isinstance(last, LastNewRequest) else ()


class TestUpcoming:
    def test_waiting_requests_fill_the_batch_in_their_order(self) -> None:
        output, queue = step(waiting(0), waiting(1)), [waiting(2 + i) for i in range(100)]
        before = vars(output.scheduled_new_reqs[-1])
        Upcoming().attach(output, queue)
        assert upcoming_of(output) == tuple(packed(2 + i) for i in range(MAX_BATCH - 2))
        assert vars(output.scheduled_new_reqs[-1]) == before | {"upcoming": upcoming_of(output)}
        assert type(output.scheduled_new_reqs[0]) is NewRequestData

    @pytest.mark.parametrize(("new", "room"), [(1, 63), (63, 1), (64, 0), (65, 63), (200, 56)])
    def test_the_room_in_the_last_batch(self, new: int, room: int) -> None:
        output = step(*[waiting(i) for i in range(new)])
        Upcoming().attach(output, [waiting(1000 + i) for i in range(100)])
        assert len(upcoming_of(output)) == room <= MAX_EARLY_ROWS

    def test_nothing_is_sent_while_new_requests_were_sent_before(self) -> None:
        queue, upcoming = [waiting(i) for i in range(100)], Upcoming()
        upcoming.attach(step(waiting(200)), queue)
        sizes = []
        while queue:
            output = step(queue.pop(0))
            upcoming.attach(output, queue)
            sizes.append(len(upcoming_of(output)))
        # after the first 63, the next one is computed with the other 36
        assert sizes == [0] * 63 + [36] + [0] * 36

    def test_only_requests_with_an_embedding_and_without_an_adapter(self) -> None:
        output = step(waiting(0))
        queue = [waiting(1, LORA), waiting(2, other=1), waiting(3, **{EXTRA_ARG: "x"}), waiting(4)]
        Upcoming().attach(output, queue)
        assert upcoming_of(output) == (packed(4),)
        for new in ([], [waiting(1, LORA)], [waiting(2, other=1)]):
            output = step(*new)
            Upcoming().attach(output, queue)
            assert not output.scheduled_new_reqs or not upcoming_of(output)

    def test_a_request_without_sampling_parameters(self) -> None:
        request = SimpleNamespace(sampling_params=None, lora_request=None)
        assert packed_embedding(request) is None


class TestEarlyRows:
    def test_a_row_goes_to_the_request_with_its_embedding_once(self) -> None:
        early = EarlyRows([10, 11])
        computed = dict(early.replace([packed(1), packed(2)]))
        assert sorted(computed.values()) == [10, 11]
        assert early.exchange(packed(3), 0) == 0
        assert early.exchange(packed(1), 0) == computed[packed(1)]
        assert early.exchange(packed(1), 5) == 5

    def test_an_exchanged_row_is_used_again(self) -> None:
        early = EarlyRows([10])
        assert dict(early.replace([packed(1)])) == {packed(1): 10}
        assert early.exchange(packed(1), 0) == 10
        assert dict(early.replace([packed(2)])) == {packed(2): 0}

    def test_rows_that_remain_are_not_computed_again(self) -> None:
        early = EarlyRows([10, 11])
        first = dict(early.replace([packed(1), packed(2)]))
        assert dict(early.replace([packed(2), packed(3)])) == {packed(3): first[packed(1)]}
        assert early.exchange(packed(2), 0) == first[packed(2)]
        assert early.exchange(packed(1), 5) == 5  # no longer kept

    def test_equal_embeddings_have_one_row(self) -> None:
        early = EarlyRows([10, 11])
        assert len(dict(early.replace([packed(1), packed(1)]))) == 1

    def test_no_row_is_lost_or_shared_in_many_steps(self) -> None:
        """Each running request and each early row has a row of its own, whatever the order."""
        early, slot_of_index = EarlyRows(range(4, 4 + MAX_EARLY_ROWS)), list(range(4))
        number = 0
        for turn in range(200):
            list(early.replace([packed(number + i) for i in range(turn % MAX_EARLY_ROWS)]))
            for index in range(turn % 4):
                slot_of_index[index] = early.exchange(packed(number), slot_of_index[index])
                number += 1 + turn % 3
        rows = slot_of_index + [
            row for _, row in early.replace([packed(10**6 + i) for i in range(MAX_EARLY_ROWS)])
        ]
        assert sorted(rows) == list(range(4 + MAX_EARLY_ROWS))
