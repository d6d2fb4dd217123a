"""ImageBind and Point-Bind encoders in plain torch: bytes -> tensors -> one embedding space.

Serving and training share it. It imports neither vLLM, nor DeepSpeed, nor the server.
"""
