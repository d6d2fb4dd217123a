"""Training data: captions, instructions and shards, frozen embeddings, the order of examples."""
