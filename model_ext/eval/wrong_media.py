"""The control "wrong picture": every question gets the media of another question."""

from collections.abc import Sequence

from model_ext.eval.item import MODALITIES, Item


def wrong_media(items: Sequence[Item]) -> list[Item]:
    """The items, each with the media of the next item that has other media and other answers.

    The media of both items have the same modalities. In MME's form the media of another picture
    are taken, because all answers are yes or no. Items without media stay as they are.
    Raises ValueError: when no other item has such media.
    """
    result = []
    for index, item in enumerate(items):
        if not any(item.media()):
            result.append(item)
            continue
        others = (items[(index + step) % len(items)] for step in range(1, len(items)))
        donor = next((other for other in others if exchangeable(item, other)), None)
        if donor is None:
            raise ValueError(f"item {item.id!r}: no other question has media to exchange")
        result.append(item.model_copy(update={name: getattr(donor, name) for name in MODALITIES}))
    return result


def exchangeable(item: Item, other: Item) -> bool:
    media, others = list(item.media()), list(other.media())
    if media == others or [kind for kind, _ in media] != [kind for kind, _ in others]:
        return False
    if item.pair is not None:
        return item.pair != other.pair
    return item.answers != other.answers
