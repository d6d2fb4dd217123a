import pytest

from model_ext.eval.scorers.containment import contains_word


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("a red car", "red", True),
        ("a redder car", "red", False),
        ("anything", "", True),
        ("...", "", False),
        ("", "", False),
        ("costs $5", "$5", False),
        ("costs US$5", "$5", True),  # a word character touches the word
        ("a_b", "a", False),
        ("été", "été", True),
        ("a.b", "axb", False),  # the word is no pattern
        ("redred red", "red", True),  # a later occurrence
    ],
)
def test_word_boundaries(text: str, word: str, expected: bool) -> None:
    assert contains_word(text, word) is expected
