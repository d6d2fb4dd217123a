"""Checks of a model's folder: golden answers, the reference implementation, shapes."""
