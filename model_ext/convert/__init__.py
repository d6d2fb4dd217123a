"""Convert released checkpoints (torch files) to a model's folder (safetensors files)."""
