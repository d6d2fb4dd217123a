"""Reading and writing weights: lazy tensors, name tables, safetensors folders."""
