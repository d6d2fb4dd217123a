"""A control run: every question is sent with the media of another question."""

from collections.abc import Sequence

from model_ext.eval.item import MODALITIES, Item


def wrong_media(items: Sequence[Item]) -> list[Item]:
    """Return copies of the items with exchanged media. An item gets the media of the next suitable
    item: its media have the same modalities but are other files, and its correct answers differ. In
    MME, whose answers are all yes or no, an item with another picture is suitable. Items without
    media are unchanged. Raises ValueError: when no other item has suitable media.
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
    return correct(item) != correct(other)


def correct(item: Item) -> tuple[list[str], str | None]:
    """Return the item's correct answers, and the correct candidate if the task ranks candidates."""
    candidates, index = item.candidates or [], item.truth_index
    if index is None or index >= len(candidates):
        return item.answers, None
    return item.answers, candidates[index]
