"""The page of the commands, made of what `--help` knows of each.

It is written from the commands themselves and not from the output of `--help`, whose lines, boxes and types
change with the terminal and with the versions of typer and click.
"""

import inspect
import re
from collections.abc import Iterator

import click
import typer

from comdml_flwr.cli.main import app

_INTRODUCTION = """# Commands

`comdml COMMAND --help` shows what stands here. The exit status of every command is one of these:

| status | meaning |
| --- | --- |
| 0 | all went well |
| 1 | a fault of a run or of the machine |
| 2 | bad input; one line names the thing, its value and the rule |
| 130 | Ctrl-C |
"""


def cli_page() -> str:
    """Return the page."""
    root = typer.main.get_command(app)
    rows = [
        f"| [`{path}`](#{_anchor(path)}) | {_first_sentence(command)} |" for path, command in _commands(root)
    ]
    table = "\n".join(["| command | what it does |", "| --- | --- |", *rows])
    sections = [_section(path, command) for path, command in _commands(root)]
    return "\n".join([_INTRODUCTION, table, "", *sections])


def _commands(group: click.Command, path: str = "comdml") -> Iterator[tuple[str, click.Command]]:
    """Yield every command that is no group, with what is typed for it."""
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _section(path: str, command: click.Command) -> str:
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if isinstance(parameter, click.Argument)]
    options = [parameter for parameter in shown if isinstance(parameter, click.Option)]
    usage = " ".join([path, *(["[OPTIONS]"] if options else []), *map(_metavar, arguments)])
    parts = [f"## {path}", _paragraphs(command.help or ""), f"```text\n{usage}\n```"]
    if arguments:
        rows = [f"| `{_cell(_metavar(argument))}` | {_text(argument)} |" for argument in arguments]
        parts.append("\n".join(["| argument | meaning |", "| --- | --- |", *rows]))
    if options:
        rows = [f"| {_names(option)} | {_default(option)} | {_text(option)} |" for option in options]
        parts.append("\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def _names(option: click.Option) -> str:
    names = [*option.opts[1:], option.opts[0]]
    value = "" if option.is_flag else f" {_metavar(option)}"
    return _cell(", ".join(f"`{name}{value if name == names[-1] else ''}`" for name in names))


def _metavar(parameter: click.Parameter) -> str:
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter, click.Argument):
        return str(parameter.name).upper()
    return {"integer": "N", "integer range": "N", "float range": "X"}.get(
        parameter.type.name, parameter.type.name.upper()
    )


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    value = option.default
    return f"`{value}`" if isinstance(value, int | float | str) and not isinstance(value, bool) else ""


def _text(parameter: click.Parameter) -> str:
    text = " ".join((getattr(parameter, "help", None) or "").split())
    low, high = (getattr(parameter.type, bound, None) for bound in ("min", "max"))
    if low is not None:
        text += f" At least {low}." if high is None else f" From {low} to {high}."
    return _cell(_escaped(text))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _first_sentence(command: click.Command) -> str:
    paragraph = " ".join((command.help or "").split("\n\n")[0].split())
    return _escaped(paragraph)


def _paragraphs(text: str) -> str:
    """Return a help text as Markdown: what is indented in it is a block of code."""
    lines: list[str] = []
    for line in inspect.cleandoc(text.replace("\b", "")).splitlines():
        if lines and lines[-1] and line and line.startswith("    ") != lines[-1].startswith("    "):
            lines.append("")
        lines.append(_unescaped(line) if line.startswith("    ") else _escaped(_example(line)))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _example(line: str) -> str:
    """Return a line; the command that it gives as an example is code."""
    return re.sub(r"(?<=: )(comdml .*?)(?=, and|$)", r"`\1`", line)


def _escaped(text: str) -> str:
    """Return words as Markdown: outside of code, what would be markup is not."""
    parts = _unescaped(text).split("`")
    parts[::2] = [part.replace("*", "\\*").replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def _unescaped(text: str) -> str:
    return text.replace("\\[", "[")  # Rich's markup


def _anchor(path: str) -> str:
    return path.replace(" ", "-")
