"""The encoding service: computes embeddings from the bytes of files, in separate processes."""
