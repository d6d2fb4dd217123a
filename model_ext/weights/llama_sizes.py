"""The sizes of a LLaMA, with the meanings that they have in its config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaSizes:
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    rms_norm_eps: float
    rope_parameters: Mapping[str, Any]
    max_position_embeddings: int
    tie_word_embeddings: bool = False
    head_dim: int
    sliding_window: int | None = None  # attention window in tokens; None: unlimited

    @property
    def letters(self) -> dict[str, int]:
        return {
            "C": self.hidden_size,
            "F": self.intermediate_size,
            "H": self.num_attention_heads,
            "K": self.num_key_value_heads * self.head_dim,
            "L": self.num_hidden_layers,
            "Q": self.num_attention_heads * self.head_dim,
            "V": self.vocab_size,
        }
