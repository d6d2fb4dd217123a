"""Training: encoders, then the bind network and gates, then the instruction finetune.

Shares the model's code with serving (imagebind, bind, inject); never imports vllm.
"""
