"""The plugin that vLLM runs in each of its processes (entry point `vllm.general_plugins`).

The plugin registers the model and the tool parser by name, so that vLLM imports their modules only
when it needs them.
"""

import sys

ARCHITECTURE = "ImageBindLLMForCausalLM"
# The parser's name in vLLM's flag --tool-call-parser, its module and its class.
TOOL_PARSER = ("gpt4tools", "model_ext.tool_parsers.gpt4tools", "Gpt4ToolsParser")


def register() -> None:
    """Register bindserve's architecture and tool parser with vLLM. vLLM may call this several
    times.
    """
    from vllm import ModelRegistry
    from vllm.tool_parsers import ToolParserManager

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, f"model_ext.engine.model:{ARCHITECTURE}")
    ToolParserManager.register_lazy_module(*TOOL_PARSER)
    set_llvmlite_dict()


def set_llvmlite_dict() -> None:
    """Let vLLM's CPU worker start in a process that has loaded Numba.

    The worker reads the `__dict__` of every object in every module. An object of llvmlite, a
    library that Numba loads, returns a C function for every attribute name that is not in its table
    of functions, even for `__dict__`. This function adds `__dict__` to that table.
    """
    if ffi := sys.modules.get("llvmlite.binding.ffi"):
        ffi.lib._fntab["__dict__"] = {}
