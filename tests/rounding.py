"""Error bounds of float32 results, derived from the number of summed terms.

The relative error of a float32 sum of n terms is at most 4 * sqrt(n) * 2**-24 with a probability of
99.9%, because rounding errors have random signs (Higham and Mary, "A new approach to probabilistic
rounding error analysis", 2019). The order of the terms depends on the processor and on the number
of threads, so a test must allow every order.
"""

import math
from collections.abc import Iterable
from typing import Any

UNIT = 2.0**-24  # the largest relative error of one float32 operation
CONFIDENCE = 4


def rounding(terms: Iterable[int]) -> float:
    """Return the maximum relative error of a chain of float32 sums, compared with a float64 oracle.

    `terms`: the numbers of terms of the sums on the longest path from the inputs to the result.
    """
    return CONFIDENCE * math.sqrt(sum(terms)) * UNIT


def between(terms: Iterable[int]) -> float:
    """Return the maximum relative difference of two float32 results that were summed in different
    orders.
    """
    return 2 * rounding(terms)


def bind_terms(config: dict[str, Any]) -> list[int]:
    """Return the number of terms of each sum in a bind network (section `bind` of config.json)."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    # the projection has one sum, and each block three: norm, gate_proj and down_proj
    return [config["in_features"], *[hidden, hidden, inner] * config["blocks"]]


def logits_terms(config: dict[str, Any], tokens: int) -> list[int]:
    """Return the number of terms of each sum from the embedding to the log-probabilities."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    # The sums of attention are norm, q_proj, scores, values and o_proj; those of the MLP are norm,
    # gate_proj and down_proj; those of the head are norm, logits and softmax.
    attention = [hidden, hidden, config["head_dim"], tokens, hidden]
    layer = [*attention, hidden, hidden, inner]
    head = [hidden, hidden, config["vocab_size"]]
    return [*bind_terms(config["bind"]), *layer * config["num_hidden_layers"], *head]
