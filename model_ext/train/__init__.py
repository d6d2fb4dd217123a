"""Training of encoders, of the bind network and gates (pretrain), and of the LLM (finetune).

Like the server, this package uses `model_ext.imagebind`, `bind.py` and `inject.py`. It does not
import vllm. The sub-package `data` may import `lm`. `lm` does not import `data`, and `encoders`
imports neither. `loop` imports none of them.
"""
