"""Side models: models beside the language model, each in its own process (model_ext/side.py)."""
