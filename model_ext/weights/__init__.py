"""Read and write weights: lazy tensors, tables of names, safetensors files, folders."""
