"""ImageBind-LLM as a vLLM model, and the adapters for vLLM's two model runners.

When a request arrives, its embedding becomes one row of deltas per layer. Each later step only adds
gathered rows. This package does not know how the embedding was made.
"""
