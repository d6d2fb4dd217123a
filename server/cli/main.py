"""`bindserve`: the command line. Says which commands exist; each is imported when it is called.

Importing vLLM and torch takes many seconds, and `--help` must not.
"""

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# name -> (module, a function or a Typer application in it, what --help says)
COMMANDS = {
    "serve": ("server.cli.serve", "serve", "Serve a model folder over HTTP (OpenAI's API)."),
    "demo": ("server.cli.demo", "demo", "Serve the small model that comes along, and ask it."),
    "convert": (
        "server.cli.model.convert",
        "convert_command",
        "Convert released checkpoints to one folder for `bindserve serve`.",
    ),
    "embed": ("server.cli.embed", "embed", "Embed files: one unit vector each."),
    "cache": ("server.cli.cache.commands", "app", "Build and inspect retrieval caches."),
    "train": ("server.cli.train", "train_app", "Train encoders, bind network and adapters."),
    "doctor": (
        "server.cli.model.doctor",
        "doctor",
        "Check a model's folder, and that it answers well.",
    ),
    "bench": ("server.cli.bench", "app", "The side-by-side measurements that the README quotes."),
}


class LazyCommand(TyperCommand):
    """Stands for a command until it is called."""

    def __init__(self, name: str) -> None:
        self._module, self._attribute, text = COMMANDS[name]
        super().__init__(name, help=text)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        return load(self._module, self._attribute).make_context(*args, **kwargs)


class LazyGroup(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> LazyCommand | None:  # noqa: ARG002
        return LazyCommand(cmd_name) if cmd_name in COMMANDS else None


def load(module: str, attribute: str) -> Any:
    """The command itself. What comes after `--` is kept for those that pass it on."""
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings=getattr(found, "context_settings", {}))(found)
    return typer.main.get_command(app)


app = typer.Typer(cls=LazyGroup, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def bindserve() -> None:
    """An LLM answers about an image, a sound, a video, a point cloud, a text, or a mix of them."""


def main() -> None:
    """Exit codes: 0, 1 failed, 2 wrong usage."""
    app()


if __name__ == "__main__":
    main()
