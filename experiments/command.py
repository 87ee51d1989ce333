"""What the modelled experiments have in common: their file of settings, tables, pictures, and endings.

A file of settings is TOML. Its table [smoke] says what `--smoke` makes smaller: a number in place of a
number, or, for a list, how many of its entries count, from the first.
"""

import io
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import click
import typer
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from comdml_flwr.comparison.pictures import check_picture
from comdml_flwr.core.errors import ComdmlError, InputError
from comdml_flwr.planning.fleet.fleet import Fleet, FleetModel
from comdml_flwr.planning.fleet.toml_tables import Table, is_number, is_whole
from comdml_flwr.planning.types import Link

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from comdml_flwr.runs.model_costs import ModelCosts

CONFIGS = Path(__file__).resolve().parent / "configs"

_WIDTH = 250

Smoke: TypeAlias = Annotated[
    bool, typer.Option("--smoke", help="The small variant: what the file's [smoke] table makes smaller.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Picture: TypeAlias = Annotated[
    Path | None, typer.Option(help="Also draw it into this file, .svg or .png (needs the `plots` extra).")
]


def read_settings(path: Path, keys: tuple[str, ...], *, smoke: bool) -> Table:
    """Read a file of settings.

    Parameters
    ----------
    path : Path
        The TOML.
    keys : tuple[str, ...]
        What may stand in it, beside [smoke].
    smoke : bool
        Whether to apply [smoke].

    Returns
    -------
    Table
        Without [smoke]; its values are checked when they are taken out.

    Raises
    ------
    InputError
        There is no such file, it is not TOML, or it has a key that is not known.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError("config", str(path), error.strerror or "cannot be read") from error
    except ValueError as error:  # also UnicodeDecodeError
        raise InputError("config", str(path), f"is not TOML: {error}") from error
    top = Table(f"{path}:", values, (*keys, "smoke"))
    small = top.table("smoke", keys) if "smoke" in top else None
    changes = {key: _smaller(top, small, key) for key in small.values} if smoke and small else {}
    kept = {key: value for key, value in values.items() if key != "smoke"}
    return Table(f"{path}:", kept | changes, keys)


def _smaller(top: Table, small: Table, key: str) -> object:
    value = top.values.get(key)
    if isinstance(value, list):
        return value[: small.whole(key, lowest=1)]
    if not is_number(value, positive=True):
        raise small.error(key, "must stand for a number or a list of the file")
    return small.whole(key, lowest=1)


@lru_cache
def count_model(model: FleetModel) -> "ModelCosts":
    """Count what training a model costs: FLOPs of a batch, cuts, floats. It takes seconds: once is enough."""
    from comdml_flwr.runs.model_costs import model_costs  # here: it loads torch, and --help needs none of it

    nowhere = Link(bytes_per_s=0.0)
    return model_costs(
        Fleet(
            source="config",
            model=model,
            cuts=None,
            agents=(),
            default_link=nowhere,
            overrides={},
            relay=nowhere,
        )
    )


def words(table: Table, key: str, known: Iterable[str] | None = None) -> tuple[str, ...]:
    """Take out a list of names, at least one."""
    values = table.values.get(key)
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise table.error(key, "must be a list of names")
    if known is not None and not set(values) <= set(known):
        raise table.error(key, f"must be of {', '.join(known)}")
    return tuple(values)


def word(table: Table, key: str, known: Iterable[str] | None = None) -> str:
    """Take out one name."""
    value = table.values.get(key)
    if not isinstance(value, str) or (known is not None and value not in known):
        raise table.error(
            key, f"must be one of {', '.join(known)}" if known is not None else "must be a name"
        )
    return value


def numbers(table: Table, key: str, count: int | None = None) -> tuple[float, ...]:
    """Take out a list of numbers > 0: at least one, or exactly `count`."""
    values = table.values.get(key)
    rule = f"{count} numbers > 0" if count else "numbers > 0, at least one"
    if not isinstance(values, list) or not values or len(values) != (count or len(values)):
        raise table.error(key, f"must be {rule}")
    if not all(is_number(value, positive=True) for value in values):
        raise table.error(key, f"must be {rule}")
    return tuple(map(float, values))


def shape(table: Table, key: str) -> tuple[int, ...]:
    """Take out the shape of a sample."""
    values = table.values.get(key)
    if not isinstance(values, list) or not values or not all(is_whole(size, 1) for size in values):
        raise table.error(key, "must be the shape of a sample: whole numbers >= 1")
    return tuple(values)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table that is Markdown, too; columns but the first are numbers."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    table = RichTable(box=box.MARKDOWN, header_style="bold")
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    if title:
        console.print(f"\n{title}\n", markup=False)
    with console.capture() as drawn:
        console.print(table)
    console.print(*(line for line in drawn.get().splitlines() if line.strip()), sep="\n", markup=False)


def save_picture(draw: "Callable[[Figure], None]", size_in: tuple[float, float], file: Path) -> None:
    """Draw into a file; the same numbers give the same bytes."""
    check_picture(file)
    import matplotlib  # an extra, and slow to import
    from matplotlib.figure import Figure

    kind, drawn = file.suffix.lower()[1:], io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a matplotlibrc of the user's would give other bytes
        matplotlib.rcParams["svg.hashsalt"] = "comdml"
        figure = Figure(figsize=size_in, dpi=150, facecolor="white", layout="constrained")
        draw(figure)
        figure.savefig(drawn, format=kind, metadata={"Date": None} if kind == "svg" else None)
    try:
        file.write_bytes(drawn.getvalue())
    except OSError as error:
        raise InputError("--picture", str(file), error.strerror or "cannot be written") from error


def run(command: Callable[..., None]) -> None:
    """Run an experiment from the command line; what the user can mend is one line and exit status 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
    app.command()(command)
    try:
        status = app(standalone_mode=False)
    except click.ClickException as error:
        sys.exit(_said(error.format_message()))
    except InputError as error:
        sys.exit(_said(error))
    except ComdmlError as error:
        _said(error)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    sys.exit(status or 0)


def _said(reason: object) -> int:
    print(f"experiment: {reason}", file=sys.stderr)
    return 2
