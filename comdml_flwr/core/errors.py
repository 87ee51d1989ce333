"""The exception tree.

* ComdmlError: everything this package raises on purpose
    * InputError: what the user gave is wrong (also a ValueError); our commands end with exit status 2
    * RunError: a run could not go on
        * RefusedError: an envelope is not for us, or not what it says it is
        * PeerGoneError: a peer cannot be reached any more, or refuses us
        * OverdueError: something was not done by its deadline
        * PeerFaultError: what a peer says cannot be, or is not for it to say
    * StoppedError: the user ended it, and what is done is kept; our commands end with exit status 130

Beside it InterruptedRun, which is a KeyboardInterrupt: no handler of errors is to take it for one.
"""

from typing import Literal, TypeAlias

LONGEST_VALUE = 200  # characters of a value that a message shows


class ComdmlError(Exception):
    """Something that this package raises on purpose; the message is one line, meant for a person."""


class InputError(ComdmlError, ValueError):
    """A value that the user gave breaks a rule.

    Parameters
    ----------
    what : str
        The name of the thing, as the user knows it: a key, a file, an option.
    value : object
        What was given.
    rule : str
        What holds for it.

    Examples
    --------
    >>> print(InputError("batch-size", 0, "must be at least 1"))
    batch-size = 0: must be at least 1
    """

    def __init__(self, what: str, value: object, rule: str) -> None:
        super().__init__(f"{what} = {short_repr(value)}: {rule}".replace("\n", " "))
        self.what, self.value, self.rule = what, value, rule

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, object, str]]:
        return type(self), (self.what, self.value, self.rule)


def short_repr(value: object) -> str:
    """Return a value as messages show it: not longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write whole numbers of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


class RunError(ComdmlError):
    """A run could not go on: an agent failed or the machines disagree."""


Refusal: TypeAlias = Literal[
    "another run", "not a member", "revoked", "wrong sender", "wrong receiver", "wrong round",
    "unknown kind", "replayed", "truncated", "oversized", "corrupt", "stalled",
]  # fmt: skip
"""Why an envelope is refused; what counts them uses these words."""


class RefusedError(RunError):
    """An envelope is not for us, or not what it says it is.

    Parameters
    ----------
    reason : Refusal
        The kind of refusal, as it is counted.
    detail : str
        What is wrong with this one; what a peer wrote is cut and made printable.
    """

    def __init__(self, reason: Refusal, detail: str) -> None:
        printable = ascii(detail)[1:-1][:LONGEST_VALUE]
        super().__init__(f"{reason}: {printable}")
        self.reason = reason


class PeerGoneError(RunError):
    """A peer cannot be reached any more, or refuses us.

    Parameters
    ----------
    peer : int
        Its agent id.
    reason : str
        What happened.
    """

    def __init__(self, peer: int, reason: str) -> None:
        super().__init__(f"agent {peer} is gone: {' '.join(reason.split())}")
        self.peer, self.reason = peer, reason


class OverdueError(RunError):
    """Something was not done by its deadline."""


class PeerFaultError(RunError):
    """What a peer says cannot be, or is not for it to say: a fault of its own, which ends nobody else's run.

    Parameters
    ----------
    agent : int
        Who said it.
    reason : str
        What is wrong with it, in a line that names it.
    """

    def __init__(self, agent: int, reason: str) -> None:
        super().__init__(" ".join(reason.split())[: 2 * LONGEST_VALUE])
        self.agent = agent


class StoppedError(ComdmlError):
    """The user ended a command that can go on later; the message says how far it got."""


class InterruptedRun(KeyboardInterrupt):
    """Ctrl-C has ended a run; the message says how it goes on."""
