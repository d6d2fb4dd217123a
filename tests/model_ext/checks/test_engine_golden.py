"""`engine_golden` sends requests to vLLM, parses the answers and reports failures.

tests/server/cli/model/test_checkup.py checks the answers of a real engine.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest

from model_ext.checks.engine_golden import EngineError, answer, request, step, steps
from model_ext.checks.golden import Golden, embedding
from model_ext.conditioning import EXTRA_ARG, unpack


def test_the_chosen_token_comes_first() -> None:
    assert step(7, {3: -0.5, 7: -0.5, 9: -0.1}) == [(7, -0.5), (9, -0.1), (3, -0.5)]
    candidates = {4: SimpleNamespace(logprob=-1.0), 5: SimpleNamespace(logprob=-2.0)}
    completion = SimpleNamespace(token_ids=[4, 5], logprobs=[candidates, candidates])
    assert steps(completion) == [
        {"top": [(4, -1.0), (5, -2.0)]},
        {"top": [(5, -2.0), (4, -1.0)]},
    ]


@pytest.mark.engine
def test_each_prompt_has_its_own_condition(tiny_models: dict[str, Path]) -> None:
    folder = tiny_models["finetune"]
    golden = Golden.read(folder)
    sent = [request(folder, number, each) for number, each in enumerate(golden.answers)]
    assert len({prompt["cache_salt"] for prompt, _ in sent}) == len(sent)
    for number, (prompt, params) in enumerate(sent):
        assert tuple(prompt["prompt_token_ids"]) == golden.answers[number].ids
        vector = unpack(params.extra_args[EXTRA_ARG], 40)
        assert vector is not None
        assert (vector == embedding(folder, number).numpy()).all()


@pytest.mark.engine
def test_a_failure_is_told_in_one_line(tiny_models: dict[str, Path]) -> None:
    with pytest.raises(EngineError) as caught:
        answer(tiny_models["finetune"], {"dtype": "float4"})
    assert "float4" in str(caught.value)
    assert "\n" not in str(caught.value)
