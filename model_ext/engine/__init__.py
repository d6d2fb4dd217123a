"""ImageBind-LLM as a vLLM model, and the runner adapters: the code that passes embeddings from
vLLM's two model runners to the model.

When a request arrives, the engine computes one vector (a row of deltas) per layer from the
request's embedding. Each later step only looks up these rows and adds them to the request's tokens.
This package does not compute embeddings.
"""
