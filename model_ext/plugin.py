"""The plugin that vLLM runs in each of its processes (entry point `vllm.general_plugins`).

The plugin registers the model by name, so that a process imports the model's module only when it
builds the model.
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

    The worker reads the `__dict__` of every object in every module. An object of llvmlite, a
    library that Numba loads, returns a C function for every attribute name that is not in its table
    of functions, even for `__dict__`. This function adds `__dict__` to that table.
    """
    if ffi := sys.modules.get("llvmlite.binding.ffi"):
        ffi.lib._fntab["__dict__"] = {}
