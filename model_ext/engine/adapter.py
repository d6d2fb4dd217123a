"""Which adapter goes with which model runner, decided in one place.

V2 asks the model for its state class, so nothing is to be done. V1 is reached through our worker
class. Anything else would run the model unconditioned, and is refused.
"""

from vllm.config import VllmConfig

CPU_WORKER = "model_ext.engine.worker_v1.ConditionedCPUWorker"
GPU_WORKER = "model_ext.engine.worker_v1.ConditionedGPUWorker"

_OURS = {
    "vllm.v1.worker.cpu_worker.CPUWorker": CPU_WORKER,
    "vllm.v1.worker.gpu_worker.Worker": GPU_WORKER,
}


def adapt(vllm_config: VllmConfig) -> None:
    """Choose our worker class if the V1 runner will be used. To call before the engine is made."""
    parallel = vllm_config.parallel_config
    if not vllm_config.use_v2_model_runner:
        parallel.worker_cls = _OURS.get(parallel.worker_cls, parallel.worker_cls)
    check_adapter(vllm_config)


def check_adapter(vllm_config: VllmConfig) -> None:
    """Raise unless the runner that this configuration leads to conditions its requests."""
    worker = vllm_config.parallel_config.worker_cls
    known = {*_OURS, *_OURS.values()} if vllm_config.use_v2_model_runner else {*_OURS.values()}
    if worker not in known:
        runner = "V2" if vllm_config.use_v2_model_runner else "V1"
        raise ValueError(
            f"bindserve has no adapter for worker class {worker} on model runner {runner}, and "
            f"without one the model would ignore its attachments. Start it with `bindserve serve`, "
            f"or pass --worker-cls {CPU_WORKER} (CPU) or {GPU_WORKER} (GPU)."
        )
