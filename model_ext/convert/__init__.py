"""From released checkpoints (torch files) to the one folder that is served (safetensors)."""
