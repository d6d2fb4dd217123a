"""A base LLaMA: its sizes and its tensors, read from Meta's or Hugging Face's layout.

Tensors have the names that the model's folder uses. The rows of the query and key matrices are in
rotate-half order (`rotary.py`). This module does not depend on the adapter.

Letters: C hidden, F feed-forward, V vocabulary, Q query width (H*d), K key and value width (KV*d).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from model_ext.weights.llama_sizes import LlamaSizes
from model_ext.weights.table import Row
from model_ext.weights.tensors import LazyTensor

LLAMA_ROWS = (
    Row("tok_embeddings.weight", "V C", "model.embed_tokens.weight"),
    Row("layers.{i}.attention.wq.weight", "Q C", "model.layers.{i}.self_attn.q_proj.weight"),
    Row("layers.{i}.attention.wk.weight", "K C", "model.layers.{i}.self_attn.k_proj.weight"),
    Row("layers.{i}.attention.wv.weight", "K C", "model.layers.{i}.self_attn.v_proj.weight"),
    Row("layers.{i}.attention.wo.weight", "C Q", "model.layers.{i}.self_attn.o_proj.weight"),
    Row("layers.{i}.feed_forward.w1.weight", "F C", "model.layers.{i}.mlp.gate_proj.weight"),
    Row("layers.{i}.feed_forward.w2.weight", "C F", "model.layers.{i}.mlp.down_proj.weight"),
    Row("layers.{i}.feed_forward.w3.weight", "F C", "model.layers.{i}.mlp.up_proj.weight"),
    Row("layers.{i}.attention_norm.weight", "C", "model.layers.{i}.input_layernorm.weight"),
    Row("layers.{i}.ffn_norm.weight", "C", "model.layers.{i}.post_attention_layernorm.weight"),
    Row("norm.weight", "C", "model.norm.weight"),
    Row("output.weight", "V C", "lm_head.weight"),
)


@dataclass(frozen=True, slots=True)
class Llama:
    sizes: LlamaSizes
    # name in the model's folder -> tensor, in the order of the table
    tensors: dict[str, LazyTensor]
    files: tuple[Path, ...]  # all files that were read

    @property
    def folder(self) -> Path:
        return self.files[0].parent

    def norms(self) -> dict[str, LazyTensor]:
        return {name: lazy for name, lazy in self.tensors.items() if "norm" in name}

    def fingerprint(self) -> str:
        """Return a sha256 of some weights. It is the same for a LLaMA in Meta's and in Hugging
        Face's layout.
        """
        digest = hashlib.sha256()
        names = [*self.norms(), "model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight"]
        for name in names:
            tensor = self.tensors[name].read()
            rows = (tensor if tensor.ndim == 1 else tensor[:16]).float().contiguous()
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(rows.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
