"""Greedy generation with the training code's model gives the tokens of the released code."""

import json

import pytest
import torch
from safetensors.torch import load_file

from model_ext.train.lm.generate import answers, generate
from model_ext.train.lm.phase import Phase
from model_ext.train.tokenizer import open_tokenizer
from tests.model_ext.train.conftest import FIXTURES, MakeModel

GOLDEN = load_file(FIXTURES / "golden" / "logits.safetensors")
MIXED = load_file(FIXTURES / "golden" / "visual.safetensors")
INDEX = json.loads((FIXTURES / "golden" / "index.json").read_text())["logits"]
PROMPT_IDS: list[int] = INDEX["prompt_ids"][0]
NO_TOKEN = -1


@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
def test_greedy_tokens_of_many_embeddings_at_once(phase: Phase, make_model: MakeModel) -> None:
    combos = ["image", "audio", "image_audio", "point"]
    embeddings = torch.cat([MIXED[f"{combo}/mixed"].view(1, -1) for combo in combos])
    answer_ids = generate(make_model(phase), PROMPT_IDS, embeddings, 32, NO_TOKEN)
    for combo, ids in zip(combos, answer_ids, strict=True):
        assert ids == GOLDEN[f"{phase}/{combo}/prompt0/greedy_ids"].tolist()


def test_logits_of_a_prompt(make_model: MakeModel) -> None:
    embedding = MIXED["image/mixed"].view(1, -1)
    model = make_model("finetune")
    hidden = model.hidden(torch.tensor([PROMPT_IDS]), embedding)
    golden = GOLDEN["finetune/image/prompt0/logits"]
    torch.testing.assert_close(model.logits(hidden)[0], golden, rtol=0, atol=1e-3)


def test_an_answer_ends_at_eos(make_model: MakeModel) -> None:
    """Generation ends at EOS. The test uses the fifth token of a recorded answer as EOS."""
    embedding = MIXED["image/mixed"].view(1, -1)
    golden = GOLDEN["finetune/image/prompt0/greedy_ids"].tolist()
    [ids] = generate(make_model("finetune"), PROMPT_IDS, embedding, 32, golden[4])
    assert ids == golden[:4]


def test_answers_are_texts(make_model: MakeModel) -> None:
    tokenizer = open_tokenizer(FIXTURES / "tiny" / "llama" / "tokenizer.model")
    embedding = MIXED["image/mixed"].view(1, -1)
    prompt = INDEX["prompts"][0]
    [text] = answers(make_model("finetune"), tokenizer, prompt, embedding, 32)
    assert text == INDEX["greedy"]["finetune/image/prompt0"]["text"].strip()
