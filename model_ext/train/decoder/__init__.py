"""Train a decoder, which draws pictures from embeddings."""
