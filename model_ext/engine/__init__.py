"""ImageBind-LLM as a vLLM model, and the runner adapters: the code that passes embeddings from
vLLM's two model runners to the model.

When a request arrives, the engine computes one vector (row of deltas) per layer from the request's
embedding. Each step then only looks up these rows and adds them. This package does not compute
embeddings.
"""
