"""ImageBind-LLM as a vLLM model, and the adapters for vLLM's two model runners.

When a request arrives, the engine computes one vector (row of deltas) per layer from its embedding.
Each step then only looks up these rows and adds them. This package does not compute embeddings.
"""
