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
        ("costs US$5", "$5", True),  # there is a word boundary between a letter and "$"
        ("a_b", "a", False),
        ("été", "été", True),
        ("a.b", "axb", False),  # The dot is not a wildcard.
        ("redred red", "red", True),  # The second "red" is a whole word.
    ],
)
def test_word_boundaries(text: str, word: str, expected: bool) -> None:
    assert contains_word(text, word) is expected
