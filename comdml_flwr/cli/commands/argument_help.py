"""The help text of a command's arguments, with every click and typer that Flower allows."""

import inspect
from typing import Any

from typer.core import TyperArgument, TyperCommand
from typer.models import ArgumentInfo


class Command(TyperCommand):
    """A command whose arguments have their help text.

    Since click 8.5 an argument of click's own has a `help`, and typer 0.20 (the newest that Flower 1.42
    allows) loses there what it was given.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        described = inspect.signature(self.callback).parameters if self.callback else {}
        for argument in (parameter for parameter in self.params if isinstance(parameter, TyperArgument)):
            if argument.help is None and argument.name in described:
                metadata = getattr(described[argument.name].annotation, "__metadata__", ())
                infos = (info for info in metadata if isinstance(info, ArgumentInfo))
                argument.help = next((info.help for info in infos), None)
