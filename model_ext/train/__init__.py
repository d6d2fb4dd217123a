"""Training of encoders, of the bind network and gates (pretrain), and of the LLM (finetune).

Shares the code of imagebind, bind and inject with serving. Does not import vllm. `data` may import
`lm`, but `lm` does not import `data`; `encoders` imports neither.
"""
