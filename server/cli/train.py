"""`bindserve train`: encoders, pretrain, finetune, export. Thin: the work is in model_ext/train.

Imports it when a command is called: DeepSpeed takes many seconds to load.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

train_app = typer.Typer(
    help="Train encoders, the bind network and gates, or an instruction finetune; export them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Config = Annotated[Path, typer.Argument(help="The YAML file of the run.")]
Until = Annotated[
    int | None, typer.Option(help="Stop after so many updates, with a checkpoint to go on from.")
]


@train_app.command()
def pretrain(config: Config, until: Until = None) -> None:
    """Phase 1: bind network, queries and gates, on captions of pictures.

    Alone, or under a launcher: `torchrun --no-python bindserve train pretrain CONFIG.yaml`.
    """
    with told():
        from model_ext.train.config import TrainConfig
        from model_ext.train.run import train

        train(TrainConfig.from_file(config, "pretrain"), "pretrain", until)


@train_app.command()
def finetune(config: Config, until: Until = None) -> None:
    """Phase 2 (and 3, with other data): norms, biases and LoRA, on instructions."""
    with told():
        from model_ext.train.config import TrainConfig
        from model_ext.train.run import train

        train(TrainConfig.from_file(config, "finetune"), "finetune", until)


@train_app.command()
def encoders(config: Config, until: Until = None) -> None:
    """Align encoders of any modality with pictures, from lists of samples that share a key."""
    with told():
        from model_ext.train.encoders.config import EncodersConfig
        from model_ext.train.encoders.run import train_encoders

        for name, share in train_encoders(EncodersConfig.from_file(config), until).items():
            typer.echo(f"{name}: {share:.1%} of the held-out samples find their key")


@train_app.command()
def export(
    run: Annotated[Path, typer.Argument(help="`out` of a pretrain or finetune run.")],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    base: Annotated[
        Path | None, typer.Option(help="The LLaMA, if not where the run found it.")
    ] = None,
    encoders: Annotated[
        Path | None, typer.Option(help="The encoders, if not where the run found them.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
) -> None:
    """Write a trained model as the folder that `bindserve serve` reads."""
    with told():
        from model_ext.train.export import export_run

        export_run(run, out, base=base, encoders=encoders, dtype=dtype)
        typer.echo(str(out))


@contextmanager
def told() -> Iterator[None]:
    """Errors of the user's files and settings as one line, exit code 1."""
    from model_ext.train.errors import TrainError
    from model_ext.weights.errors import ConvertError

    try:
        yield
    except (ConvertError, TrainError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    train_app()
