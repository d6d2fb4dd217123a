"""Training data: captions, instructions, shards; frozen embeddings; the order of an epoch."""
