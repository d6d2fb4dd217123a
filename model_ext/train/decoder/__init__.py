"""Train a decoder: embeddings become pictures."""
