"""Open-vocabulary detectors of the library transformers. Their queries are texts."""
