import pytest

from model_ext.eval.item import Item
from model_ext.eval.wrong_media import wrong_media


def item(key: str, answer: str, **fields: str) -> Item:
    return Item(id=key, task="t", question=f"Q{key}?", answers=[answer], **fields)


def test_takes_media_of_a_question_with_another_answer() -> None:
    items = [item("0", "cat", image="a"), item("1", "cat", image="b"), item("2", "dog", image="c")]
    assert [each.image for each in wrong_media(items)] == ["c", "c", "a"]
    assert [each.question for each in wrong_media(items)] == ["Q0?", "Q1?", "Q2?"]


def test_media_keep_their_modality_and_texts_stay() -> None:
    items = [item("0", "a", image="x"), item("1", "b", audio="y"), item("2", "c", image="z")]
    items += [item("3", "d", audio="w"), item("4", "e")]
    changed = wrong_media(items)
    assert [(each.image, each.audio) for each in changed] == [
        ("z", None), (None, "w"), ("x", None), (None, "y"), (None, None),
    ]  # fmt: skip


def test_in_mmes_form_another_picture_is_taken() -> None:
    items = [
        item(f"{picture}{answer}", answer, image=picture, pair=picture)
        for picture in "pq"
        for answer in ("Yes", "No")
    ]
    assert [each.image for each in wrong_media(items)] == ["q", "q", "p", "p"]


def test_candidates_have_correct_answers_too() -> None:
    """Regression: items of Visdial, which have candidates instead of `answers`, all seemed to have
    the same correct answers.
    """
    words = ["yes", "no"]
    items = [
        item(str(n), "", image=str(n)).model_copy(
            update={"answers": [], "candidates": words, "truth_index": truth}
        )
        for n, truth in enumerate([0, 0, 1])
    ]
    assert [each.image for each in wrong_media(items)] == ["2", "2", "0"]


def test_rejects_a_single_picture() -> None:
    with pytest.raises(ValueError, match="no other question has media"):
        wrong_media([item("0", "cat", image="a"), item("1", "cat")])
