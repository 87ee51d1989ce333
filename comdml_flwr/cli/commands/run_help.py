"""`comdml run --help`: after the options, every key that `--set` takes."""

import click

from comdml_flwr.cli.commands.argument_help import Command


class CommandWithKeys(Command):
    """A command that ends its help with the keys of the run configuration."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help, and the keys as they are declared."""
        from rich.table import Table  # nothing heavy is imported before it is needed

        from comdml_flwr.cli.commands.show import make_console
        from comdml_flwr.core.config import SUBJECTS
        from comdml_flwr.core.settings.base import kebab
        from comdml_flwr.core.strict_json import to_json

        super().format_help(ctx, formatter)
        table = Table("key of --set", "default", "meaning", box=None, pad_edge=False, header_style="bold")
        for subject in SUBJECTS:
            table.add_row("", "", f"[bold]{subject.model_config['title']}[/bold]")
            for name, field in subject.model_fields.items():
                table.add_row(kebab(name), to_json(field.default), (field.description or "").replace("`", ""))
        make_console().print(table)
