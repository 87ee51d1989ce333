"""`comdml ...`: ask for plans before any training, and run a method in this process.

The commands are in commands/, one file each; here is what they are called and how they end.
"""

import errno
import sys
from typing import Annotated, NoReturn

import click
import typer

from comdml_flwr.cli.commands import (
    argument_help,
    certificates,
    compare,
    doctor,
    explain,
    fleet,
    init,
    model,
    plan,
    report,
    run,
    run_help,
    what_if,
)
from comdml_flwr.core.errors import ComdmlError, InputError, StoppedError
from comdml_flwr.core.user_code import TRACEBACK, describe_error, show_traceback, wants_traceback
from comdml_flwr.core.version import __version__

INTERRUPTED = 130

app = typer.Typer(
    name="comdml",
    help="ComDML for Flower: slow devices offload the upper part of their network to faster peers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("init", cls=argument_help.Command)(init.init)
app.command("plan", cls=argument_help.Command)(plan.plan)
app.command("explain", cls=argument_help.Command)(explain.explain)
app.command("what-if", cls=argument_help.Command)(what_if.what_if)
app.command("run", cls=run_help.CommandWithKeys)(run.run)
app.command("model", cls=argument_help.Command)(model.model)
app.command("compare", cls=argument_help.Command)(compare.compare)
app.command("report", cls=argument_help.Command)(report.report)
app.command("certificates", cls=argument_help.Command)(certificates.certificates)
app.command("doctor", cls=argument_help.Command)(doctor.doctor)
app.add_typer(fleet.fleet_app, name="fleet")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"comdml-flwr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> NoReturn:
    """Run the command line; what the user can mend is one line and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        hints = "Did you mean" in error.message  # Click would add its own
        _end(error.message if hints else error.format_message(), 2)
    except InputError as error:
        _end(error, 2)
    except StoppedError as error:
        _end(error, INTERRUPTED)
    except ComdmlError as error:
        show_traceback(error)
        _end(error, 1)
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    except Exception as error:  # a fault of ours or of the machine
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and not error.filename:
            _end(f"standard output cannot be written: {error.strerror}", 1)  # files are named where they fail
        show_traceback(error)
        hint = "" if wants_traceback() else f" (with {TRACEBACK}=1 the whole traceback is shown)"
        _end(f"{describe_error(error)}{hint}", 1)
    if status == INTERRUPTED:  # typer makes a status of Ctrl-C
        _end("interrupted", INTERRUPTED)
    sys.exit(status or 0)


def _end(reason: object, status: int) -> NoReturn:
    print(f"comdml: {reason}", file=sys.stderr)
    sys.exit(status)
