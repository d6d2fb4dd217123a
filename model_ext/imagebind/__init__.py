"""ImageBind and Point-Bind encoders in plain torch: bytes -> tensors -> embeddings in one space.

Serving and training share this package. It imports neither vLLM, nor DeepSpeed, nor the server.
"""
