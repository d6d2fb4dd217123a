"""Train a flow decoder: compute the principal components of its pictures, then train the flow.

Training runs in a single process. Run the same command again to resume an interrupted run.
Shapes: B samples, K components, P = 3 S S.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model_ext.decoders.flow import Flow
from model_ext.decoders.flow_file import save_flow
from model_ext.device import choose_device
from model_ext.train.decoder.config import DecoderConfig
from model_ext.train.decoder.data import DrawingData, open_data
from model_ext.train.encoders.batches import generator
from model_ext.train.loop.schedule import learning_rate
from model_ext.train.loop.steps import CHECKPOINT, run_steps

MAX_PICTURES = 8000  # maximum number of pictures from which the components are computed
MIN_DEVIATION = 1e-3  # minimum standard deviation of a component, relative to the largest
MAX_TIME = 0.99  # at time 1, x_t is x, and there is nothing to learn


def train_decoder(config: DecoderConfig, until: int | None = None) -> Path:
    """Train to the last step or to step `until`. Returns the folder `<out>/decoder`.

    Raises TrainError: when a file or a setting is invalid.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    data = open_data(config)
    trainer = DecoderTrainer(config, data)
    if not (config.out / CHECKPOINT).is_file():
        trainer.start()
    folder = config.out / "decoder"
    run_steps(trainer, config, until, lambda *_: save_flow(trainer.average, folder))
    return folder


class DecoderTrainer:
    """The flow, the moving average of its weights, and the optimiser. The random numbers of a step
    depend only on the step's number and the seed.
    """

    def __init__(self, config: DecoderConfig, data: DrawingData) -> None:
        self.config = config
        self.data = data
        torch.manual_seed(config.seed)
        sizes = config.sizes(data.embeddings.shape[-1])
        self.flow, self.average = Flow(sizes), Flow(sizes)
        self.flow.reset()
        self.device = torch.device(choose_device(config.device))
        self.flow.to(self.device)
        self.average.to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.flow.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )

    def start(self) -> None:
        """Compute the components. A resumed run has them in its checkpoint."""
        weights = self.data.weights.repeat_interleave(
            torch.tensor([len(rows) for rows in self.data.rows])
        )
        rows = torch.tensor([row for rows in self.data.rows for row in rows])
        g = generator(self.config.seed + 3, 0)
        picks = torch.multinomial(weights, MAX_PICTURES, replacement=True, generator=g)
        views = torch.randint(self.data.views.shape[1], (MAX_PICTURES,), generator=g)
        stored = self.data.views[rows[picks].to(self.device), views.to(self.device)]
        pictures = stored.float() / 127.5 - 1
        mean, basis, deviation = principal(pictures.flatten(1), self.config.components)
        # With few pictures, most components have deviation 0. The minimum avoids a division by
        # zero.
        deviation = deviation.clamp_min(MIN_DEVIATION * float(deviation.max()))
        self.flow.mean.copy_(mean)
        self.flow.basis.copy_(basis)
        # Components are divided by the square root of their deviation. Large components stay larger
        # than small ones, but the flow's noise hides the small ones during fewer steps.
        self.flow.scale.copy_((deviation * deviation.mean()).sqrt())
        self.flow.deviation.copy_((deviation / deviation.mean()).sqrt())
        self.average.load_state_dict(self.flow.state_dict())

    def step(self, step: int) -> dict[str, float]:
        """Update the weights. Returns the loss, the gradient norm and the learning rate."""
        config = self.config
        rate = learning_rate(step, config.warmup_steps, config.steps, config.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        g = generator(config.seed, step)
        pictures, directions = self.data.batch(config.batch, g)
        dropped = torch.rand((config.batch, 1), generator=g) < config.drop
        directions = directions.masked_fill(dropped.to(self.device), 0)
        x = self.flow.components_of(pictures)
        time_ = torch.sigmoid(1.2 * torch.randn(config.batch, generator=g) - 0.4)
        time_ = time_.clamp(max=MAX_TIME).to(self.device)
        noise = torch.randn(x.shape, generator=g).to(self.device)
        x_t = time_[:, None] * x + (1 - time_[:, None]) * noise
        error = (self.flow(x_t, time_, directions) - x) / self.flow.residual_scale(time_)
        # Errors of large components have a larger weight, because they are more visible.
        weights = self.flow.deviation / self.flow.deviation.mean()
        loss = (weights * error.square()).mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.flow.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self._average(min(config.average, (step + 1) / (step + 10)))
        return {"loss": loss.item(), "grad_norm": norm.item(), "lr": rate}

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for mean, weight in zip(self.average.parameters(), self.flow.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)

    def state(self) -> dict[str, Any]:
        return {
            "flow": self.flow.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.flow.load_state_dict(state["flow"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


def principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean (P,) of rows (M, P), their first `count` principal directions (K, P), and the
    standard deviations (K,) along these directions.
    """
    mean = rows.mean(0)
    torch.manual_seed(0)  # svd_lowrank uses torch's global random generator
    _, values, directions = torch.svd_lowrank(rows - mean, q=count, niter=3)
    return mean, directions.T, values / len(rows) ** 0.5
