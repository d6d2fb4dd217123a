"""Checks of a model folder: golden prompts, the slow reference, shapes."""
