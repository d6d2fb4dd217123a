"""ImageBind-LLM as a vLLM model, and the adapters for vLLM's two model runners.

A request's embedding becomes one row of deltas a layer when the request arrives; every step after
that only adds gathered rows. Does not know how the embedding was made.
"""
