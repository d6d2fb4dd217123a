"""Convert released checkpoints (torch files) into a model's folder (safetensors)."""
