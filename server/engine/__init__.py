"""vLLM's engine client, which requires an embedding for every request."""
