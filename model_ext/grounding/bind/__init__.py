"""bindserve's own detector, whose queries are embeddings in ImageBind's space."""
