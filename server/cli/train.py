"""`bindserve train`: the command-line interface of model_ext/train.

A command imports model_ext/train only when it runs, because DeepSpeed takes many seconds to load.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from server.logs import fail

train_app = typer.Typer(
    help="Train encoders, a decoder, the bind network, or the LLM's adapter weights; "
    "export the result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Config = Annotated[
    Path, typer.Argument(help="YAML file of the run; docs/training.md lists its keys.")
]
Until = Annotated[
    int | None,
    typer.Option(
        help="Write a checkpoint and stop after this number of updates. Default: train to the end."
    ),
]


@train_app.command()
def pretrain(config: Config, until: Until = None) -> None:
    """Phase 1: train the weights that pass embeddings to the LLM, on images with captions.

    Runs on one device, or on several under a launcher:
    `torchrun --no-python bindserve train pretrain CONFIG.yaml`. Run the same command again to
    resume an interrupted run.
    """
    with one_line_errors():
        from model_ext.train.config import TrainConfig
        from model_ext.train.run import train

        train(TrainConfig.from_file(config, "pretrain"), "pretrain", until)


@train_app.command()
def finetune(config: Config, until: Until = None) -> None:
    """Phases 2 and 3: train the LLM's norms, biases and LoRA on data with instructions."""
    with one_line_errors():
        from model_ext.train.config import TrainConfig
        from model_ext.train.run import train

        train(TrainConfig.from_file(config, "finetune"), "finetune", until)


@train_app.command()
def encoders(config: Config, until: Until = None) -> None:
    """Train encoders of any modality so that their embeddings are close to those of related images.

    Lists of samples assign a key to each sample. Samples with equal keys belong together.
    """
    with one_line_errors():
        from model_ext.train.encoders.config import EncodersConfig
        from model_ext.train.encoders.run import train_encoders

        for name, share in train_encoders(EncodersConfig.from_file(config), until).items():
            typer.echo(f"{name}: {share:.1%} of the held-out samples match their key")


@train_app.command()
def decoder(config: Config, until: Until = None) -> None:
    """Train a small decoder that draws a picture from an embedding."""
    with one_line_errors():
        from model_ext.train.decoder.config import DecoderConfig
        from model_ext.train.decoder.run import train_decoder

        typer.echo(str(train_decoder(DecoderConfig.from_file(config), until)))


@train_app.command()
def detector(config: Config, until: Until = None) -> None:
    """Train a detector whose queries are embeddings, on scenes that are composed of drawings."""
    with one_line_errors():
        from model_ext.train.detector.config import DetectorConfig
        from model_ext.train.detector.run import train_detector

        typer.echo(str(train_detector(DetectorConfig.from_file(config), until)))


@train_app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder `out` of a pretrain or finetune run.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    base: Annotated[
        Path | None, typer.Option(help="LLaMA folder. Default: the `base` of the run.")
    ] = None,
    encoders: Annotated[
        Path | None, typer.Option(help="Encoders folder. Default: the `encoders` of the run.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Precision of the LLM's weights: bfloat16, float16 or float32.")
    ] = "bfloat16",
) -> None:
    """Write a trained model as the folder that `bindserve serve` reads."""
    with one_line_errors():
        from model_ext.train.export import export_run

        export_run(run, out, base=base, encoders=encoders, dtype=dtype)
        typer.echo(str(out))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """On an error in the user's files or settings, print one line and exit with status 1."""
    from model_ext.train.errors import TrainError
    from model_ext.weights.errors import ConvertError

    try:
        yield
    except (ConvertError, TrainError) as error:
        fail(str(error))


if __name__ == "__main__":
    train_app()
