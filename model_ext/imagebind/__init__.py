"""ImageBind and Point-Bind encoders in plain torch: bytes -> tensors -> embeddings in one space for
all modalities.

The server and the training code share this package. It imports neither vLLM, nor DeepSpeed, nor the
server.
"""
