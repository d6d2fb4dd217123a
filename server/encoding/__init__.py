"""The encoding service: from a file's bytes to its embedding, in separate processes."""
