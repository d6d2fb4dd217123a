"""Training runs under DeepSpeed have equal losses, although their settings differ.

The runs differ in ZeRO stage, number of processes, accumulation of gradients, and interruptions.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.model_ext.train.conftest import BASE, FIXTURES
from tests.model_ext.train.forked import Forked

ROOT = Path(__file__).parents[3]
ON_GPU = Path("/dev/nvidiactl").exists()
UPDATES = 16
Curve = list[float]


class Runs:
    """Starts training runs. Each run changes a few keys of the default settings."""

    def __init__(self, folder: Path, encoders: Path) -> None:
        self.folder = folder
        self.defaults: dict[str, Any] = {
            "base": str(BASE),
            "encoders": str(encoders),
            "embedding_cache": str(folder / "embeddings"),
            "media_root": str(FIXTURES),
            "data": [str(FIXTURES / "golden" / "train_pretrain.csv")] * 8,
            "batch": 4,
            "split": 1,
            "epochs": 4,
            "warmup_epochs": 0.5,
            "base_learning_rate": 0.3,
            "gate_factor": 10.0,
            "injected_layers": 4,
            "save_epochs": 1,
            "workers": 0,
        }

    def config(self, name: str, zero: int = 0, **changes: Any) -> Path:
        out = self.folder / name
        out.mkdir(exist_ok=True)
        deepspeed = out / "deepspeed.json"
        deepspeed.write_text(json.dumps({"zero_optimization": {"stage": zero}}))
        path = out / "config.yaml"
        settings = self.defaults | {"out": str(out), "deepspeed": str(deepspeed)} | changes
        path.write_text(yaml.safe_dump(settings))
        return path

    def start(
        self, config: Path, phase: str = "pretrain", processes: int = 1, **variables: str
    ) -> subprocess.Popen[bytes] | Forked:
        """Start a run in a new process group, so that a test can kill all of its processes.

        `variables`: environment variables. The run is a fork of a process with all imports if it
        has one process, no variables and no GPU (on a GPU, the imports initialize CUDA, which
        forbids a fork).
        """
        log = config.parent / "output.txt"
        if processes == 1 and not variables and not ON_GPU:
            return Forked([phase, str(config)], log)
        module = ["-m", "model_ext.train", phase, str(config)]
        command = [sys.executable, *module]
        if processes > 1:
            launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
            port = ["--master-port", "0", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
            command = [sys.executable, *launcher, *port, *module]
        environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment | {"OMP_NUM_THREADS": "1"} | variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(
        self, config: Path, phase: str = "pretrain", processes: int = 1, **variables: str
    ) -> Curve:
        code = self.start(config, phase, processes, **variables).wait(timeout=400)
        assert code == 0, (config.parent / "output.txt").read_text()[-3000:]
        return losses(config.parent)


def losses(out: Path) -> Curve:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(len(lines)))
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, encoders_folder: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), encoders_folder)


@pytest.fixture(scope="module")
def reference(runs: Runs) -> Curve:
    """The losses of an uninterrupted run with one process and ZeRO stage 0."""
    curve = runs.run(runs.config("reference"))
    assert len(curve) == UPDATES
    # The loss must decrease. Otherwise, equal losses of two runs would prove nothing.
    assert curve[-1] < 0.8 * curve[0]
    return curve


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zero_stages_agree(runs: Runs, reference: Curve, zero: int) -> None:
    name = f"zero{zero}"
    assert runs.run(runs.config(name, zero)) == pytest.approx(reference, rel=2e-5)
    within = 2e-4 if zero == 3 else 1e-5  # The measured differences are 4e-5 and 1e-6.
    assert_close_adapters(runs.folder / name, runs.folder / "reference", within)


@pytest.mark.parametrize("zero", [0, 2])
def test_bfloat16_has_nearly_the_same_losses(runs: Runs, reference: Curve, zero: int) -> None:
    """bfloat16 is the dtype on a GPU; trained tensors and rotary angles stay float32.

    The first loss differs by rounding only: each activation by at most 2**-9, with random signs.
    Over the updates, the differences accumulate (up to 3% of single losses), so the test compares
    the mean of the losses. The test also sets the instruction set, because processors with
    bfloat16 instructions round in another order.
    """
    config = runs.config(f"bfloat16-{zero}", zero)
    settings = {"zero_optimization": {"stage": zero}, "bf16": {"enabled": True}}
    (config.parent / "deepspeed.json").write_text(json.dumps(settings))
    curve = runs.run(config, ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2")
    # The measured differences are 0.0006 for the first loss, and 0.01 for the sum of the losses.
    assert curve[0] == pytest.approx(reference[0], rel=4 * 2**-9)
    assert sum(curve) == pytest.approx(sum(reference), rel=0.1)
    assert curve[-1] < 0.8 * curve[0]


def test_accumulation_is_a_larger_batch(runs: Runs, reference: Curve) -> None:
    """Two accumulated batches have almost the loss of one large batch.

    The losses differ a little, because the two batches have different numbers of target tokens.
    """
    curve = runs.run(runs.config("accumulated", batch=2, accumulate=2))
    assert curve == pytest.approx(reference, rel=0.05)
    assert curve[0] != reference[0]


@pytest.mark.parametrize("zero", [0, 3])
def test_two_processes_agree_with_accumulation(runs: Runs, zero: int) -> None:
    """The mean loss of two processes equals the loss of one process that accumulates gradients."""
    two = runs.run(runs.config(f"two{zero}", zero, batch=2), "pretrain", 2)
    assert len(two) == UPDATES
    assert two[-1] < 0.8 * two[0]
    if zero == 3:
        assert two == pytest.approx(losses(runs.folder / "two0"), rel=2e-5)


@pytest.mark.parametrize("zero", [0, 3])
def test_a_killed_and_resumed_run_has_the_same_losses(
    runs: Runs, reference: Curve, zero: int
) -> None:
    config = runs.config(f"killed{zero}", zero)
    process = runs.start(config)
    log = config.parent / "log.jsonl"
    wait_for(lambda: len(log.read_text().splitlines()) >= 5 if log.is_file() else False)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (config.parent / "checkpoints" / "latest").read_text() < "update-00000016"
    assert len(log.read_text().splitlines()) < UPDATES
    assert runs.run(config) == pytest.approx(reference, rel=1e-6 if zero == 0 else 2e-5)
    within = 0 if zero == 0 else 2e-4  # only ZeRO 3 changes the order of sums
    assert_close_adapters(config.parent, runs.folder / "reference", within)


def test_finetune_starts_from_pretrain(runs: Runs, reference: Curve) -> None:
    assert reference
    data = str(FIXTURES / "golden" / "train_finetune.json")
    chinese = runs.folder / "chinese.json"  # training data in Chinese
    chinese.write_text(json.dumps([{"instruction": "这是什么？", "output": "一只猫。"}] * 3))
    settings = {
        "start": str(runs.folder / "reference"),
        "data": [*[data] * 4, str(chinese)],
        "batch": 3,
        "warmup_epochs": 0,
        "max_tokens": 128,
        "base_learning_rate": 0.1,
    }
    curve = runs.run(runs.config("finetune", 2, **settings), "finetune")
    assert curve[-1] < curve[0]
    before = load_file(runs.folder / "reference" / "adapter.safetensors")
    after = load_file(runs.folder / "finetune" / "adapter.safetensors")
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    learned = after.keys() - before.keys()
    assert any(name.endswith("lora_b") and after[name].any() for name in learned)
    assert any(name.endswith("q_proj.bias") and after[name].any() for name in learned)
    third = settings | {"start": str(runs.folder / "finetune"), "data": [data] * 2}
    third_curve = runs.run(runs.config("third", **third), "finetune")
    # The third run started from the weights of the second run, so that its first loss is low.
    assert third_curve[0] < 0.5 * (curve[0] + curve[-1])


def test_checkpoints_contain_no_frozen_tensors(runs: Runs, reference: Curve) -> None:
    assert reference
    out = runs.folder / "reference"
    trained = sum(tensor.numel() for tensor in load_file(out / "adapter.safetensors").values())
    saved = max(path.stat().st_size for path in (out / "checkpoints").rglob("*.pt"))
    # a weight and two moments of Adam take 3 x 4 bytes per number, and the metadata less than 4
    assert saved < 4 * trained * 4


def assert_close_adapters(one: Path, other: Path, within: float) -> None:
    """Compare the adapters of two runs. `within` limits the relative norm of a difference."""
    first = load_file(one / "adapter.safetensors")
    second = load_file(other / "adapter.safetensors")
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        # Compare norms: Adam can turn a rounding error in a tiny gradient into a full step.
        assert (tensor - second[name]).norm() <= within * tensor.norm(), name


def wait_for(condition: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
