"""Read the memory size of the engine's first GPU without creating a CUDA context in this process.

Tests replace `read_card`, the only function that needs a GPU.
"""

from server.engine.memory_budget import Card


def read_card() -> Card | None:
    """Return the first visible GPU, or None if vLLM runs on another platform."""
    from vllm.platforms import current_platform

    if not current_platform.is_cuda():
        return None
    from vllm.utils.import_utils import import_pynvml

    nvml = import_pynvml()
    nvml.nvmlInit()
    try:
        index = current_platform.device_id_to_physical_device_id(0)
        memory = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index))
        return Card(current_platform.get_device_name(0), int(memory.total), int(memory.free))
    finally:
        nvml.nvmlShutdown()
