"""Detectors of the library transformers that find things by any text (open vocabulary)."""
