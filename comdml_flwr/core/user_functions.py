"""Functions that a user passes: refused in one line where they could not be called as they will be.

Without that, the error would stand in the line of ours that calls them, long after they were given.
"""

import inspect

from comdml_flwr.core.errors import InputError


def check_function(function: object, what: str, *arguments: str) -> None:
    """Refuse what cannot be called with so many arguments, by place.

    Parameters
    ----------
    function : object
        What somebody gave.
    what : str
        Its name, as the user knows it.
    *arguments : str
        What the arguments mean, for the rule.

    Raises
    ------
    InputError
        It is no function, or takes other arguments.

    Examples
    --------
    >>> check_function(len, "data", "place")
    >>> check_function("train.csv", "data", "place")
    Traceback (most recent call last):
    comdml_flwr.core.errors.InputError: data = 'train.csv': must be a function (place)
    """
    rule = f"must be a function ({', '.join(arguments)})"
    if not callable(function):
        is_short = isinstance(function, str | int | float) or function is None
        raise InputError(what, function if is_short else type(function).__name__, rule)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some that are written in C nobody can tell
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise InputError(what, f"{name}{signature}", f"{rule}: {error}") from None
