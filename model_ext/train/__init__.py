"""Training of encoders, of the bind network and gates (pretrain), and of the LLM (finetune).

Uses the packages imagebind, bind and inject, as serving does. Does not import vllm. `data` may
import `lm`, but `lm` does not import `data`; `encoders` imports neither.
"""
