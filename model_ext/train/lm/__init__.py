"""The conditioned language model in plain torch: LLaMA with the injection, for training."""
