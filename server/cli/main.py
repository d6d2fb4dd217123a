"""The command line of `bindserve`.

Lists the commands, and imports a command's module only when the command runs, so that `--help` does
not import vLLM and torch, which takes many seconds.
"""

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# name -> (module, function or Typer application in the module, text of --help)
COMMANDS = {
    "serve": ("server.cli.serve", "serve", "Serve a model folder over HTTP (OpenAI's API)."),
    "demo": (
        "server.cli.demo",
        "demo",
        "Serve the demonstration model and ask it a few questions.",
    ),
    "convert": (
        "server.cli.model.convert",
        "convert_command",
        "Convert released checkpoints to a model folder for `bindserve serve`.",
    ),
    "embed": (
        "server.cli.embed",
        "embed",
        "Embed files with a model's encoders: one unit vector per file.",
    ),
    "cache": (
        "server.cli.cache.commands",
        "app",
        "Build, inspect, change and serve retrieval caches.",
    ),
    "train": (
        "server.cli.train",
        "train_app",
        "Train encoders, the bind network, or the LLM's adapter weights; export the result.",
    ),
    "doctor": (
        "server.cli.model.doctor",
        "doctor",
        "Check a model folder's files, tensors, encoders, cache and recorded answers.",
    ),
    "eval": (
        "server.cli.eval.commands",
        "app",
        "Evaluate a server on the paper's data sets and MME; score stored answers again.",
    ),
    "bench": ("server.cli.bench", "app", "Run the measurements that the documentation quotes."),
}


class LazyCommand(TyperCommand):
    """A command whose module is imported when the command runs."""

    def __init__(self, name: str) -> None:
        self._module, self._attribute, text = COMMANDS[name]
        super().__init__(name, help=text)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        return load(self._module, self._attribute).make_context(*args, **kwargs)


class LazyGroup(TyperGroup):
    # click passes the context to this method.
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    # click passes the context to this method.
    def get_command(self, ctx: Any, cmd_name: str) -> LazyCommand | None:  # noqa: ARG002
        return LazyCommand(cmd_name) if cmd_name in COMMANDS else None


def load(module: str, attribute: str) -> Any:
    """Import a command. Commands with `context_settings` receive the arguments after `--`."""
    command = getattr(importlib.import_module(module), attribute)
    if isinstance(command, typer.Typer):
        return typer.main.get_command(command)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings=getattr(command, "context_settings", {}))(command)
    return typer.main.get_command(app)


app = typer.Typer(cls=LazyGroup, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def bindserve() -> None:
    """Serve an LLM that answers about images, sounds, videos, point clouds, texts and mixes."""


def main() -> None:
    """Run the command line. Exit codes: 0 success, 1 failure, 2 wrong usage."""
    app()


if __name__ == "__main__":
    main()
