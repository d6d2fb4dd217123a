"""Choose the runner adapter: the code that passes embeddings from vLLM's model runner to the model.

Model Runner V2 asks the model for the class of its runner adapter. For runner V1, the runner itself
is the adapter, and bindserve's worker class creates it. With any other worker, the model would
ignore embeddings, so `check_adapter` raises an error. Classes are named by strings, so that
importing the model does not import the runner adapters.
"""

from vllm.config import VllmConfig
from vllm.utils.import_utils import resolve_obj_by_qualname

from model_ext.engine.settings import ArrivalSettings

MODEL_STATE = "model_ext.engine.state_v2.ConditionedModelState"
CPU_WORKER = "model_ext.engine.worker_v1.ConditionedCPUWorker"
GPU_WORKER = "model_ext.engine.worker_v1.ConditionedGPUWorker"
SCHEDULER = "model_ext.engine.scheduler.ConditionedScheduler"
ASYNC_SCHEDULER = "model_ext.engine.scheduler.ConditionedAsyncScheduler"

_OUR_WORKERS = {
    "vllm.v1.worker.cpu_worker.CPUWorker": CPU_WORKER,
    "vllm.v1.worker.gpu_worker.Worker": GPU_WORKER,
}


def adapt(vllm_config: VllmConfig) -> None:
    """Set bindserve's scheduler class and, for the V1 runner, bindserve's worker class.

    Call this before the engine starts.

    Raises ValueError: when `additional_config` has bad settings, or `check_adapter` raises.
    """
    ArrivalSettings.of(vllm_config.additional_config)
    parallel = vllm_config.parallel_config
    if not vllm_config.use_v2_model_runner:
        parallel.worker_cls = _OUR_WORKERS.get(parallel.worker_cls, parallel.worker_cls)
    scheduler = vllm_config.scheduler_config
    if scheduler.scheduler_cls is None:
        scheduler.scheduler_cls = ASYNC_SCHEDULER if scheduler.async_scheduling else SCHEDULER
    check_adapter(vllm_config)


def check_adapter(vllm_config: VllmConfig) -> None:
    """Raise ValueError if this configuration's worker would pass no embeddings to the model."""
    worker = vllm_config.parallel_config.worker_cls
    conditioned = {*_OUR_WORKERS.values()}
    if vllm_config.use_v2_model_runner:
        conditioned |= {*_OUR_WORKERS}
    if worker not in conditioned:
        runner = "V2" if vllm_config.use_v2_model_runner else "V1"
        raise ValueError(
            f"worker class {worker} on model runner {runner} does not pass embeddings to the "
            f"model, so the model would ignore attachments. Start it with `bindserve serve`, "
            f"or pass --worker-cls {CPU_WORKER} (CPU) or {GPU_WORKER} (GPU)."
        )


def model_state_class() -> type:
    """Return the model state class, which passes embeddings from Model Runner V2 to the model."""
    state: type = resolve_obj_by_qualname(MODEL_STATE)
    return state
