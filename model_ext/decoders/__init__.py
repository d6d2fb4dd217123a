"""Decoders: an embedding becomes a picture. Training and serving both import this folder."""
