"""vLLM workers that create bindserve's V1 model runners. Only engines that run bindserve's model
use these workers.
"""

from vllm.v1.worker.cpu_worker import CPUWorker
from vllm.v1.worker.gpu_model_runner import GPUModelRunner
from vllm.v1.worker.gpu_worker import Worker

from model_ext.engine.runner_v1 import ConditionedCPURunner, ConditionedRunner


class ConditionedCPUWorker(CPUWorker):
    def init_device(self) -> None:
        # The base class creates vLLM's runner. Replace it, because vLLM has no setting for the
        # class of the runner.
        super().init_device()
        self.model_runner = ConditionedCPURunner(self.vllm_config, self.device)


class ConditionedGPUWorker(Worker):
    def _make_model_runner(self) -> GPUModelRunner:
        return ConditionedRunner(self.vllm_config, self.device)
