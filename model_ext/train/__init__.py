"""Training of encoders, of the bind network and gates (pretrain), and of the LLM (finetune).

This package uses the modules imagebind, bind and inject, as serving does. It does not import vllm.
`data` may import `lm`, but `lm` does not import `data`; `encoders` imports neither.
"""
