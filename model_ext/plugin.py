"""vLLM's entry point into bindserve (`vllm.general_plugins`), run in every process of vLLM.

The model is registered by name, so that its module is imported only when vLLM builds the model.
"""

import sys

ARCHITECTURE = "ImageBindLLMForCausalLM"


def register() -> None:
    """Register bindserve's architecture with vLLM. vLLM may call this several times."""
    from vllm import ModelRegistry

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, f"model_ext.engine.model:{ARCHITECTURE}")
    set_llvmlite_dict()


def set_llvmlite_dict() -> None:
    """Let vLLM's CPU worker start in a process that has loaded Numba.

    The worker reads the `__dict__` of every object in every module. llvmlite's library object
    returns a C function for any attribute name, `__dict__` included, unless the name is in its
    table of functions. This function adds the name to that table.
    """
    if ffi := sys.modules.get("llvmlite.binding.ffi"):
        ffi.lib._fntab["__dict__"] = {}
