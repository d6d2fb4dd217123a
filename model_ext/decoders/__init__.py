"""Decoders, which draw pictures from embeddings. Training and serving both import this folder."""
