"""Decode media bytes into tensors for the encoders, without batch axis, on the CPU.

`registry.preprocess` is the entry point. It should run in a worker process, because clients send
the bytes. `errors`, `limits`, `config` and `sniff` import little, so the API process uses them too.
"""
