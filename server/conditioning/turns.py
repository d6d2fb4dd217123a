"""How much the attachments of earlier user turns count: the option `imagebind.turns`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from server.conditioning.options import Decay
from server.media.attachments import Attachment


def weigh_turns(
    attachments: Sequence[Attachment],
    turns: Literal["all", "latest"] | Decay | None,
    turn_of: Callable[[str], int],
    last: int,
) -> list[Attachment]:
    """Return the attachments that count, with their weights.

    `all`: all attachments, as in the released model. `latest`: the attachments of the last turn
    that has any. `Decay`: all attachments; a weight is multiplied by `decay` for each user turn
    after the turn of the attachment.
    `turn_of`: returns the number of the turn with the attachment at a `param`. `last`: the number
    of the last turn.
    """
    if turns is None or turns == "all":
        return list(attachments)
    numbers = [turn_of(attachment.param) for attachment in attachments]
    if turns == "latest":
        return [
            attachment
            for attachment, number in zip(attachments, numbers, strict=True)
            if number == max(numbers)
        ]
    return [
        replace(attachment, weight=attachment.weight * turns.decay ** (last - number))
        for attachment, number in zip(attachments, numbers, strict=True)
    ]
