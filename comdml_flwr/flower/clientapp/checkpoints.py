"""A node's part in a checkpoint: it keeps its agent's state and mail for the run that goes on.

Where all nodes see the run's folder, that is in there, and the ServerApp takes it from there into the folder
with the results. Elsewhere no state leaves its node: it stays in Flower's own folder (`FLWR_HOME`, by default
`~/.flwr`), readable by the node's user only, until the run has finished. A run that goes on has another run
id and new keys: so the folder is named after a token, and mail lies there opened.
"""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.state_files import (
    Waiting,
    read_agent,
    read_waiting,
    save_state,
    write_agent,
    write_waiting,
)
from comdml_flwr.core.errors import RunError
from comdml_flwr.core.messages import Inbox
from comdml_flwr.flower.mail import lasting_place
from comdml_flwr.runs.checkpoint_folders import go_back, new_checkpoint
from comdml_flwr.runs.checkpoints import FOLDER
from comdml_flwr.runs.model_files import carry_best

RESTORED = 0  # the number of a state that was taken from a checkpoint: exchanges and rounds count from 1


def place_of(shared_folder: Path | None, token: str, agent: int) -> Path:
    """Return where a node keeps the checkpoints of an agent.

    Parameters
    ----------
    shared_folder : Path, optional
        The run's folder, if all nodes see it.
    token : str
        Under which nodes know the run when it goes on.
    agent : int
        Whose checkpoints.

    Raises
    ------
    RunError
        The token is none, and might name another place.
    """
    if not re.fullmatch("[0-9a-f]{32}", token):
        raise RunError(f"{token[:50]!r} is no token of a run's checkpoints")
    if shared_folder is not None:
        return shared_folder / FOLDER / str(agent)
    return lasting_place() / FOLDER / token / str(agent)


def keep(
    agent: Agent, folder: Path, place: Path, round_: int, mail: Inbox, models: Path | None = None
) -> str:
    """Write a checkpoint of an agent, whose mail goes on waiting; return the file's SHA-256.

    With it, what lies in the folder `models` of the best round; None where the ServerApp keeps that.
    """
    waiting = (*read_waiting(folder, agent.id), *mail)
    write_waiting(folder, agent.id, waiting)
    with new_checkpoint(place, round_) as partial:
        if models:
            carry_best(models, partial)
        return write_agent(partial, agent, Waiting(for_second=waiting))


def restore(
    agent: Agent, folder: Path, place: Path, round_: int, sha256: str, models: Path | None = None
) -> None:
    """Put an agent's state and mail where its next phase looks for them; drop later checkpoints.

    And the best model so far into the folder `models`, as `keep` found it there.

    Raises
    ------
    InputError
        The checkpoint is not there or damaged.
    """
    waiting = read_agent(place / str(round_), agent, sha256)
    go_back(place, round_)
    if models:
        carry_best(place / str(round_), models)
    save_state(agent, folder, RESTORED)
    write_waiting(folder, agent.id, waiting.for_second)


def forget(place: Path) -> None:
    """Remove all checkpoints of an agent, and the run's folder for them if it was the last one's."""
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):  # others are there
        place.parent.rmdir()
