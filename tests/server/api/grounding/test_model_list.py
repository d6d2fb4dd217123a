"""The grammar of the model's list of nouns allows only lists that are valid under the schema."""

import json

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from server.api.grounding.model_nouns import LIST, MAX_LENGTH, MAX_NOUNS, SCHEMA, read_list


@settings(max_examples=100, deadline=None)
@given(st.from_regex(LIST, fullmatch=True))
def test_all_lists_of_the_grammar_are_valid_and_short(answer: str) -> None:
    document = json.loads(answer)
    jsonschema.validate(document, SCHEMA)
    assert read_list(answer) == document["nouns"]
    assert len(answer) <= len('{"nouns":[]}') + MAX_NOUNS * (MAX_LENGTH + 3)
