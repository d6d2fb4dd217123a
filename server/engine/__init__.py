"""vLLM's engine client, which passes an embedding to the engine with every request."""
