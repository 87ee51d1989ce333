"""All trackers of a run: none by default, and none that can harm it."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.runs.records import RoundRecord
from comdml_flwr.runs.tracking.tensorboard_tracker import TensorBoardTracker
from comdml_flwr.runs.tracking.wandb_tracker import WandbTracker


class Tracker(Protocol):
    """Shows a run's numbers somewhere; whatever it raises is told, and the run goes on."""

    def round_ends(self, record: RoundRecord) -> None:
        """A round is over and in the run's files."""

    def finish(self, summary: Mapping[str, Json] | None) -> None:
        """The run is over; None: it has failed. Called once, also after an exception."""


def check_trackers(config: RunConfig) -> None:
    """Raise InputError if a package is not there that the configuration needs."""
    for key, value, package in (
        ("wandb", config.wandb, "wandb" if config.wandb != "disabled" else None),
        ("tensorboard", config.tensorboard, "tensorboard" if config.tensorboard else None),
    ):
        if package is not None and not _is_installed(package):
            rule = f'needs the package {package}: pip install "comdml-flwr[tracking]"'
            raise InputError(key, value, rule)


class Trackers:
    """The trackers of a run; none until it starts.

    Parameters
    ----------
    say : Callable[[str], None]
        Told once of each tracker that fails; that one is not called any more.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._trackers: dict[str, Tracker] = {}

    def start(self, config: RunConfig, folder: Path, num_over: int = 0) -> None:
        """Start those that the configuration names, for a run's folder with its `config.json`.

        A run of which some rounds are over goes on where it was.
        """
        if config.wandb != "disabled":
            self._try("wandb", lambda: self._add("wandb", WandbTracker(folder)))
        if config.tensorboard:
            self._try(
                "tensorboard",
                lambda: self._add("tensorboard", TensorBoardTracker(config, folder, num_over)),
            )

    def round_ends(self, record: RoundRecord) -> None:
        """Hand on a round."""
        for name, tracker in list(self._trackers.items()):
            self._try(name, partial(tracker.round_ends, record))

    def finish(self, summary: Mapping[str, Json] | None) -> None:
        """End all trackers; None: the run has failed."""
        for name, tracker in list(self._trackers.items()):
            self._try(name, partial(tracker.finish, summary))

    def _add(self, name: str, tracker: Tracker) -> None:
        self._trackers[name] = tracker

    def _try(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._trackers.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self._say(f"{name} has failed ({reason}); the run's own files have everything")


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # without an origin: a folder that has this name
