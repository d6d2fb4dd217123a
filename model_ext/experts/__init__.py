"""Experts: side models whose texts the language model gets as context (section 4.5 of the paper)."""
