"""Greedy answers of the training module, to look at a model before it is exported.

Prompts of one batch have the same length, so that nothing needs a mask. Serving is vLLM's business.
"""

import torch
from torch import Tensor

from model_ext.train.data.tokens import TextTokenizer
from model_ext.train.lm.layers import KeyValues
from model_ext.train.lm.model import ConditionedLlama


@torch.no_grad()
def generate(
    model: ConditionedLlama, prompt: list[int], embedding: Tensor, most: int, eos: int
) -> list[list[int]]:
    """One prompt under many embeddings (B, D): the ids of each answer, up to EOS."""
    past = [KeyValues() for _ in model.model.layers]
    answers: list[list[int]] = [[] for _ in embedding]
    done = torch.zeros(len(embedding), dtype=torch.bool, device=embedding.device)
    # The lower layers see the prompt only: once for all samples.
    lower = model.lower(torch.tensor([prompt], device=embedding.device), 0, past)
    for layer in past[: model.injection.first_layer]:
        layer.repeat(len(embedding))
    hidden = model.upper(lower.expand(len(embedding), -1, -1), embedding, 0, past)[:, -1]
    for start in range(len(prompt), len(prompt) + most):
        ids = model.logits(hidden).argmax(-1, keepdim=True)
        done |= ids[:, 0] == eos
        if done.all():
            break
        for answer, token, ended in zip(answers, ids[:, 0].tolist(), done.tolist(), strict=True):
            if not ended:
                answer.append(token)
        hidden = model.hidden(ids, embedding, start, past)[:, -1]
    return answers


def answers(
    model: ConditionedLlama,
    tokenizer: TextTokenizer,
    prompt: str,
    embedding: Tensor,
    most: int = 32,
) -> list[str]:
    """The texts, white space at the ends removed."""
    ids = [tokenizer.bos, *tokenizer.encode(prompt)]
    found = generate(model.eval(), ids, embedding, most, tokenizer.eos)
    return [tokenizer.decode(answer).strip() for answer in found]
