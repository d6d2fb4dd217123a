"""vLLM's entry point into bindserve (`vllm.general_plugins`), run in every process of vLLM.

Only strings here: nothing heavy is imported until vLLM asks for the model.
"""

import sys

ARCHITECTURE = "ImageBindLLMForCausalLM"


def register() -> None:
    """Make our architecture known to vLLM. May be called any number of times."""
    from vllm import ModelRegistry

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, f"model_ext.engine.model:{ARCHITECTURE}")
    answer_for_llvmlite()


def answer_for_llvmlite() -> None:
    """Let vLLM's worker on a CPU start where Numba is loaded (a forked one inherits it).

    It then looks through the `__dict__` of whatever is in any module. llvmlite's library takes each
    name that it is asked for as a C function's, and answers even this one with a function, unless
    the name is among those it remembers.
    """
    if ffi := sys.modules.get("llvmlite.binding.ffi"):
        ffi.lib._fntab["__dict__"] = {}
