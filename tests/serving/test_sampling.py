"""vLLM's sampling features with conditioned requests: n, seeds, beams, structured output, tools.

The tests compare log-probabilities with those of the oracle (slow reference implementation) for the
same embedding.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from tests.oracle import Oracle
from tests.serving.launch import PLAIN, Server

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("spec", [PLAIN], ids=str)]

STEPS = 8
CHOICES = ["a red balloon", "the green bell", "rain on a roof"]


@pytest.fixture(scope="module")
def oracle(tiny_models: dict[str, Path]) -> Oracle:
    return Oracle.from_folder(tiny_models["finetune"])


def unit(condition: int) -> torch.Tensor:
    vector = torch.randn(40, generator=torch.Generator().manual_seed(condition))
    return torch.nn.functional.normalize(vector, dim=0)


def part(condition: int) -> dict[str, Any]:
    return {
        "type": "imagebind_embedding",
        "imagebind_embedding": {"data": unit(condition).tolist()},
    }


def complete(server: Server, condition: int, **more: Any) -> list[Any]:
    """Request a completion with this embedding. Return its choices with ids and
    log-probabilities.
    """
    body = {
        **{"model": "any", "prompt": "What is shown here?", "attachments": [part(condition)]},
        **{"imagebind": {"cache": False}, "max_tokens": STEPS, "logprobs": 3},
        **{"return_token_ids": True, "ignore_eos": True},
        **more,
    }
    response = server.post("/v1/completions", body)
    assert response.status_code == 200, response.text
    choices: list[Any] = response.json()["choices"]
    return choices


def logprobs(oracle: Oracle, condition: int, prompt: list[int], written: list[int]) -> torch.Tensor:
    """Return the oracle's log-probabilities of the generated steps (steps, V)."""
    logits = oracle.logits(prompt + written, unit(condition) / (1 + 1e-6))
    return logits[len(prompt) - 1 : -1].log_softmax(-1)


def check(oracle: Oracle, condition: int, choice: Any) -> None:
    ids = choice["token_ids"]
    expected = logprobs(oracle, condition, choice["prompt_token_ids"], ids)
    chosen = np.array(choice["logprobs"]["token_logprobs"])
    assert np.abs(chosen - expected[range(len(ids)), ids].numpy()).max() <= 1e-3
    for step, top in enumerate(choice["logprobs"]["top_logprobs"]):
        best = expected[step].topk(3).values.numpy()
        assert np.abs(np.sort(list(top.values()))[::-1][:3] - best).max() <= 1e-3


def test_several_answers_with_a_seed(server: Server, oracle: Oracle) -> None:
    """The embedding conditions each of n answers. In vLLM, a request with n = 1 and the seed
    `seed + i` repeats answer i.
    """
    sampled = {"temperature": 1.5, "seed": 5}
    choices = complete(server, 1, n=3, **sampled)
    answers = [choice["token_ids"] for choice in choices]
    assert len({tuple(ids) for ids in answers}) == 3
    for choice in choices:
        choice["prompt_token_ids"] = choices[0]["prompt_token_ids"]
        check(oracle, 1, choice)
    again = [complete(server, 1, temperature=1.5, seed=5 + i)[0]["token_ids"] for i in range(3)]
    assert again == answers
    other = [choice["token_ids"] for choice in complete(server, 2, n=3, **sampled)]
    assert other != answers  # These requests have another embedding.


@pytest.mark.parametrize("condition", [1, 2])
def test_beam_search(server: Server, oracle: Oracle, condition: int) -> None:
    choices = complete(server, condition, use_beam_search=True, n=3, temperature=0, logprobs=None)
    prompt = complete(server, condition)[0]["prompt_token_ids"]
    sequences = [choice["token_ids"] for choice in choices]
    assert sequences == beams(oracle, condition, prompt, width=3)


def beams(oracle: Oracle, condition: int, prompt: list[int], width: int) -> list[list[int]]:
    """Return the `width` most probable sequences that beam search finds, best first."""
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(STEPS):
        grown = []
        for score, ids in alive:
            top = logprobs(oracle, condition, prompt, [*ids, 0])[-1].topk(2 * width)
            for value, token in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                grown.append((score + value, [*ids, token]))
        alive = sorted(grown, key=lambda beam: -beam[0])[:width]
    return [ids for _, ids in alive]


def test_structured_output(server: Server, oracle: Oracle, tiny_models: dict[str, Path]) -> None:
    """With structured output, each token is the most probable one that the grammar allows."""
    tokenizer = Tokenizer.from_file(str(tiny_models["finetune"] / "tokenizer.json"))
    texts = [written(tokenizer.id_to_token(i)) for i in range(512)]
    chosen = set()
    for condition in range(1, 7):
        (choice,) = complete(
            server,
            condition,
            temperature=0,
            ignore_eos=False,
            max_tokens=32,
            structured_outputs={"choice": CHOICES},
        )
        assert choice["text"] in CHOICES
        chosen.add(choice["text"])
        ids = choice["token_ids"]
        expected = logprobs(oracle, condition, choice["prompt_token_ids"], ids)
        said = ""
        for step, token in enumerate(ids[:-1]):
            rest = [text.removeprefix(said) for text in CHOICES if text.startswith(said)]
            fitting = [i for i, t in enumerate(texts) if t and any(r.startswith(t) for r in rest)]
            assert expected[step, token] >= expected[step, fitting].max() - 1e-3
            said += texts[token]
    assert len(chosen) > 1  # The answer depends on the embedding.


def written(piece: str) -> str:
    """Return the text of a tokenizer's piece. A byte piece such as <0x41> is one character."""
    if piece.startswith("<0x"):
        return chr(int(piece[1:-1], 16))
    return piece.replace("\u2581", " ")


def test_a_tool_is_called(server: Server, tiny_models: dict[str, Path]) -> None:
    """The model calls a tool.

    The request bans white space. Otherwise, this tiny model writes mostly white space.
    """
    tokenizer = Tokenizer.from_file(str(tiny_models["finetune"] / "tokenizer.json"))
    blank = [i for i in range(512) if written(tokenizer.id_to_token(i)).isspace()]
    colours = ["red", "green", "blue"]
    parameters = {
        "type": "object",
        "properties": {"colour": {"enum": colours}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    function = {"name": "paint", "parameters": parameters, "strict": True}
    tool = {"type": "function", "function": function}
    named = {"type": "function", "function": {"name": "paint"}}
    called = set()
    for condition in range(1, 7):
        text = {"type": "text", "text": "Paint it."}
        body: Any = server.chat(
            messages=[{"role": "user", "content": [part(condition), text]}],
            **{"tools": [tool], "tool_choice": named, "temperature": 0, "max_tokens": 200},
            logit_bias=dict.fromkeys(map(str, blank), -100),
        )
        (call,) = body["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "paint"
        arguments = json.loads(call["function"]["arguments"])
        assert arguments["colour"] in colours
        called.add(arguments["colour"])
    assert len(called) > 1
