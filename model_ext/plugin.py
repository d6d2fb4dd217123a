"""vLLM's entry point into bindserve (`vllm.general_plugins`), run in every process of vLLM.

Only strings here: nothing heavy is imported until vLLM asks for the model.
"""

ARCHITECTURE = "ImageBindLLMForCausalLM"


def register() -> None:
    """Make our architecture known to vLLM. May be called any number of times."""
    from vllm import ModelRegistry

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, f"model_ext.engine.model:{ARCHITECTURE}")
