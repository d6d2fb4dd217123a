"""ImageBind and Point-Bind encoders in plain torch: bytes -> tensors -> one embedding space.

Shared by serving and training; knows neither vLLM nor DeepSpeed nor the server.
"""
