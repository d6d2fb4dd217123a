"""Experts: side models whose texts the language model gets as context (the paper, section 4.5)."""
