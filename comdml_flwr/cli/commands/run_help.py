"""`comdml run --help`: after the options, every key that `--set` takes.

The keys are read from run_keys.json, which `python -m docs.generate` makes of their declarations: help loads
neither pydantic nor anything else that takes long.
"""

import json
from importlib.resources import files

import click

from comdml_flwr.cli.commands.argument_help import Command


class CommandWithKeys(Command):
    """A command that ends its help with the keys of the run configuration."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help, and the keys as they are declared."""
        from rich.table import Table  # nothing heavy is imported before it is needed

        from comdml_flwr.cli.commands.show import make_console

        super().format_help(ctx, formatter)
        table = Table("key of --set", "default", "meaning", box=None, pad_edge=False, header_style="bold")
        subjects = json.loads(files(__package__).joinpath("run_keys.json").read_text(encoding="utf-8"))
        for title, keys in subjects.items():
            table.add_row("", "", f"[bold]{title}[/bold]")
            for key, default, meaning in keys:
                table.add_row(key, default, meaning.replace("`", ""))
        make_console().print(table)
