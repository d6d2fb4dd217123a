"""vLLM's engine, with an embedding for every request."""
