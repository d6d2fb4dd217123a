"""Training runs of a decoder on a small data set: they learn, and they resume."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model_ext.decoders.flow_file import load_flow
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import ImageBind
from model_ext.train.decoder.config import DecoderConfig
from model_ext.train.decoder.data import open_data
from model_ext.train.decoder.run import DecoderTrainer, principal, train_decoder
from model_ext.train.encoders.batches import generator
from model_ext.train.encoders.start import start_small
from model_ext.train.errors import TrainError
from tests.model_ext.train.encoders.conftest import KEYS, SIZES


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder") / "encoders"
    torch.manual_seed(0)
    sizes = {name: SIZES[name] for name in ("embed_dim", "vision")}
    model = ImageBind(ImageBindConfig.from_json(json.dumps(sizes)))
    start_small(model)
    model.save(folder)
    return folder


@pytest.fixture
def config(world: Path, encoders: Path, tmp_path: Path) -> DecoderConfig:
    return DecoderConfig(
        out=tmp_path / "run",
        train_list=world / "train.jsonl",
        encoders=encoders,
        **{"side": 16, "components": 6, "width": 32, "blocks": 1, "condition_width": 16},
        **{"views": 3, "embedding_views": 2, "image_side": 40, "tilt": 0, "shift": 0, "zoom": 0},
        **{"steps": 8, "batch": 16, "warmup_steps": 2, "threads": 1, "device": "cpu"},
    )


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_trained_decoder_draws_the_pictures_of_the_embeddings_key(config: DecoderConfig) -> None:
    """The test replaces the embeddings by a different direction for each key, because embeddings of
    the random encoders are nearly equal for all keys.
    """
    larger = {"width": 64, "components": 3, "batch": 64, "learning_rate": 5e-3}
    config = config.model_copy(update={**larger, "steps": 200, "noise": 0.2, "average": 0.95})
    data = open_data(config)
    embeddings = torch.zeros(len(data.views), 2, data.embeddings.shape[-1])
    for number, rows in enumerate(data.rows):
        embeddings[list(rows), :, number] = 1
    trainer = DecoderTrainer(config, replace(data, embeddings=embeddings, noise=config.noise))
    trainer.start()
    for step in range(config.steps):
        trainer.step(step)
    pictures = data.views[:, 0].float() / 127.5 - 1
    for rows in data.rows:
        conditions = embeddings[list(rows)[:1], 0].expand(4, -1)
        generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
        drawn = trainer.average.sample(conditions, generators, 12, 1.5)
        distances = (drawn[:, None] - pictures).square().mean((2, 3, 4))
        nearest = distances.argmin(1).tolist()
        assert sum(near in rows for near in nearest) >= 3, (rows, nearest)


def test_a_resumed_run_has_the_losses_and_weights_of_a_whole_run(
    config: DecoderConfig, tmp_path: Path
) -> None:
    whole = config.model_copy(update={"out": tmp_path / "whole"})
    one = load_flow(train_decoder(whole)).state_dict()
    train_decoder(config, until=3)
    other = load_flow(train_decoder(config)).state_dict()
    assert losses(config.out) == losses(whole.out)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_conditions_belong_to_the_key_of_the_picture(config: DecoderConfig) -> None:
    data = open_data(config.model_copy(update={"noise": 0}))
    assert len(data.rows) == len(KEYS)
    pictures, conditions = data.batch(64, generator(0, 0))
    assert pictures.shape == (64, 3, 16, 16)
    torch.testing.assert_close(conditions.norm(dim=-1), torch.ones(64))
    views = data.views.flatten(2).float() / 127.5 - 1
    for picture, condition in zip(pictures.flatten(1), conditions, strict=True):
        distances = (views - picture).abs().amax(2).amin(1)
        (rows,) = [rows for rows in data.rows if int(distances.argmin()) in rows]
        # The condition is a normalised mix of this key's embeddings, so it is a linear combination
        # of them.
        span = data.embeddings[list(rows)].flatten(0, 1)
        solution = torch.linalg.lstsq(span.T, condition[:, None], driver="gelsd").solution
        assert (span.T @ solution - condition[:, None]).norm() < 1e-3


def test_pictures_without_anchor_are_not_learned(config: DecoderConfig, world: Path) -> None:
    lines = [json.loads(line) for line in (world / "train.jsonl").read_text().splitlines()]
    pictures = [line for line in lines if line["modality"] == "image"]
    shown = [line | {"anchor": number % 2 == 0} for number, line in enumerate(pictures)]
    path = world / "anchors.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in shown))
    data = open_data(config.model_copy(update={"train_list": path}))
    assert len(data.views) == len(pictures) / 2
    path.write_text("".join(json.dumps(line | {"anchor": False}) + "\n" for line in pictures))
    with pytest.raises(TrainError, match="no picture"):
        open_data(config.model_copy(update={"train_list": path}))


def test_principal_components_are_those_of_an_exact_decomposition() -> None:
    torch.manual_seed(0)
    rows = torch.randn(50, 5) @ torch.randn(5, 30) + 2
    mean, basis, deviation = principal(rows, 5)
    torch.testing.assert_close(mean, rows.mean(0))
    torch.testing.assert_close(basis @ basis.T, torch.eye(5), rtol=0, atol=1e-5)
    exact = torch.linalg.svdvals(rows - rows.mean(0))[:5] / 50**0.5
    torch.testing.assert_close(deviation, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"stepps": 3}, "stepps"), ({"steps": 0}, "steps"), ({"side": 4}, "side")],
)
def test_wrong_settings_are_named(
    config: DecoderConfig, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json") | change))
    with pytest.raises(TrainError, match=message):
        DecoderConfig.from_file(path)


def test_encoders_without_pictures_are_named(config: DecoderConfig, tmp_path: Path) -> None:
    sizes = {name: SIZES[name] for name in ("embed_dim", "text")}
    ImageBind(ImageBindConfig.from_json(json.dumps(sizes))).save(tmp_path / "texts")
    with pytest.raises(TrainError, match="no encoder of pictures"):
        open_data(config.model_copy(update={"encoders": tmp_path / "texts"}))
