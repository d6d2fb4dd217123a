"""Media bytes -> tensors for the encoders, without batch axis, on the CPU.

`registry.preprocess` is the way in, and is meant to run in a worker process: the bytes come from
outside. `errors`, `limits`, `config` and `sniff` are light enough for the process that serves.
"""
