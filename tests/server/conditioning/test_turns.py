"""The option `turns`: which attachments of a dialogue count, and how much."""

from typing import Any

import pytest

from server.conditioning.contexts import Contexts, take_contexts
from server.conditioning.mix import mix
from server.conditioning.options import Decay, take_options
from server.conditioning.turns import weigh_turns
from server.errors import BadRequest
from server.media.attachments import Attachment
from server.media.blob import MemoryBlob

# User turns 0, 1 and 2; the second one calls a tool, whose result is message 4.
ROLES = ["system", "user", "user", "assistant", "tool", "assistant", "user"]


def contexts() -> Contexts:
    contexts = Contexts(lambda _: [], 8)
    messages = [{"role": role, "content": "x"} for role in ROLES]
    take_contexts(messages, contexts, where="messages")
    return contexts


def weights(turns: Any, *params: str, weight: float = 1.0) -> list[tuple[str, float]]:
    attachments = [Attachment("image", MemoryBlob(b"x"), weight, param) for param in params]
    turn = contexts()
    result = weigh_turns(attachments, turns, turn.turn_of, turn.last)
    return [(attachment.param, attachment.weight) for attachment in result]


FIRST, SECOND, RESULT, THIRD = (f"messages[{index}].content[0]" for index in (1, 2, 4, 6))
ALL = (FIRST, SECOND, RESULT, THIRD, "upload")


def test_all_is_the_default() -> None:
    expected = [(param, 1.0) for param in ALL]
    assert weights("all", *ALL) == weights(None, *ALL) == expected


def test_latest_keeps_the_last_turn_that_has_attachments() -> None:
    assert weights("latest", *ALL) == [(THIRD, 1.0), ("upload", 1.0)]
    assert weights("latest", FIRST, SECOND, RESULT) == [(SECOND, 1.0), (RESULT, 1.0)]
    assert weights("latest", FIRST, FIRST) == [(FIRST, 1.0)] * 2
    assert weights("latest") == []


def test_decay_is_a_power_of_the_age_in_user_turns() -> None:
    assert weights(Decay(decay=0.5), *ALL, weight=2) == [
        *((FIRST, 0.5), (SECOND, 1.0), (RESULT, 1.0), (THIRD, 2.0), ("upload", 2.0))
    ]
    assert weights(Decay(decay=1), *ALL) == weights("all", *ALL)


def test_a_sum_of_weights_near_zero_is_rejected() -> None:
    faded = [weight for _, weight in weights(Decay(decay=0.2), FIRST)]
    assert faded == pytest.approx([0.04])
    with pytest.raises(BadRequest) as error:
        mix([[1.0, 0.0]], faded)  # type: ignore[arg-type]
    assert error.value.param == "weight"


@pytest.mark.parametrize("value", ["none", 1, {"decay": 1.1}, {"decay": -1}, {"w": 1}, [], {}])
def test_wrong_values(value: Any) -> None:
    with pytest.raises(BadRequest) as error:
        take_options({"imagebind": {"turns": value}}, turns=True)
    assert str(error.value.param).startswith("imagebind.turns")


def test_only_dialogues_have_turns() -> None:
    with pytest.raises(BadRequest) as error:
        take_options({"imagebind": {"turns": "latest"}})
    assert error.value.param == "imagebind.turns"
