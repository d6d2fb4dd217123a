"""Greedy generation with the training module, to evaluate a model before its export.

All samples of a batch share one prompt, so no attention mask is needed. Serving uses vLLM instead.
"""

import torch
from torch import Tensor

from model_ext.train.lm.layers import KeyValues
from model_ext.train.lm.model import ConditionedLlama
from model_ext.train.tokenizer import TextTokenizer


@torch.no_grad()
def generate(
    model: ConditionedLlama, prompt: list[int], embedding: Tensor, max_tokens: int, eos: int
) -> list[list[int]]:
    """Answer one prompt for each embedding (B, D). Returns the token ids of each answer, without
    EOS.
    """
    past = [KeyValues() for _ in model.model.layers]
    answers: list[list[int]] = [[] for _ in embedding]
    done = torch.zeros(len(embedding), dtype=torch.bool, device=embedding.device)
    # Run the lower layers once for all samples, because they do not depend on the embedding.
    lower = model.lower(torch.tensor([prompt], device=embedding.device), 0, past)
    for layer in past[: model.injection.first_layer]:
        layer.repeat(len(embedding))
    hidden = model.upper(lower.expand(len(embedding), -1, -1), embedding, 0, past)[:, -1]
    for start in range(len(prompt), len(prompt) + max_tokens):
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
    max_tokens: int = 32,
) -> list[str]:
    """Return the answers' texts without white space at their ends."""
    ids = [tokenizer.bos, *tokenizer.encode(prompt)]
    answer_ids = generate(model.eval(), ids, embedding, max_tokens, tokenizer.eos)
    return [tokenizer.decode(answer).strip() for answer in answer_ids]
