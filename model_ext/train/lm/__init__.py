"""The conditioned language model as training sees it: a plain LLaMA with the injection inside."""
