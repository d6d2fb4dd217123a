import pytest

from model_ext.eval.scorers.ptb import ptb_tokens
from tests.model_ext.eval.goldens import cases


def test_recorded_texts() -> None:
    rows = cases("ptb")
    assert len(rows) == 110
    assert {text: " ".join(ptb_tokens(text)) for _, text, _ in rows} == {t: e for _, t, e in rows}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It isn't mine", "it is n't mine"),
        ("I can’t", "i ca n’t"),
        ("Cannot gonna", "can not gon na"),
        ("5:30pm", "5:30 pm"),
        ("AT&T", "at & t"),
        ("#tag #5 $3.50 20% €4 £6", "#tag # 5 $ 3.50 20 % $ 4 # 6"),
        ("the U.S. at 10 p.m. on a St. in May.", "the u.s. at 10 p.m. on a st. in may"),
        ("[a] (b) {c}", "-lsb- a -rsb- -lrb- b -rrb- -lcb- c -rcb-"),
        ("wow!! really? yes!", "wow !! really yes"),
        ("½ cup — two", "1/2 cup two"),
        ("a ☃ snow😀man", "a snow man"),
        ("\n", ""),
    ],
)
def test_rules(text: str, tokens: str) -> None:
    assert " ".join(ptb_tokens(text)) == tokens
