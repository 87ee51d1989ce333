"""Starts a serverless method where a ServerApp of one's own would start one of Flower's strategies."""

import difflib
from collections.abc import Mapping

from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from comdml_flwr.core.app_folder import running_app
from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.settings.base import kebab
from comdml_flwr.flower.serverapp.asked_run import asked_run
from comdml_flwr.flower.serverapp.last_line import tell_errors_last
from comdml_flwr.flower.serverapp.serverless_run import TIMEOUT_S
from comdml_flwr.runs.catalogue import METHODS, SERVERLESS

tell_errors_last()

_SETTINGS = "must be left out: a setting is PeerStrategy(batch_size=32), and a key of your own `app.KEY`"
_LEFT_OUT = {
    "initial_arrays": "must be left out: the nodes draw the weights from the seed, and none passes here",
    "train_config": _SETTINGS,
    "evaluate_config": _SETTINGS,
    "evaluate_fn": "must be left out: no model comes here to be evaluated; the nodes evaluate it",
}


class PeerStrategy:
    """Runs a serverless method in a ServerApp's own `main`; owns no model.

    It has the `start` of Flower's strategies, and is no `Strategy`: there is no model for `configure_train`
    to send, and none for `aggregate_train` to average, so what wraps a strategy (differential privacy, secure
    aggregation) would have nothing to work on.

    Parameters
    ----------
    method : str, optional
        A method without a server, as "comdml".
    settings : bool, int, float or str
        Keys of the run configuration, with underscores. A key that is not given here has the value that
        `--run-config` gives, or the app's `[tool.flwr.app.config]`, or else our default. The nodes train
        under the same.

    Raises
    ------
    InputError
        There is no such key or method.

    Examples
    --------
    >>> PeerStrategy(method="comdml", bacth_size=32)
    Traceback (most recent call last):
    comdml_flwr.core.errors.InputError: bacth_size = 32: is no setting of a run; did you mean 'batch_size'?
    """

    def __init__(self, method: str | None = None, **settings: bool | int | float | str) -> None:
        for name, value in settings.items():
            if name not in RunConfig.model_fields:
                near = difflib.get_close_matches(name, RunConfig.model_fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "they are the keys of the run configuration"
                raise InputError(name, value, f"is no setting of a run; {hint}")
        if method is not None:
            _check_serverless(method)
            settings["method"] = method
        self._settings: Mapping[str, object] = {kebab(name): value for name, value in settings.items()}

    def start(
        self,
        grid: Grid,
        initial_arrays: object = None,
        num_rounds: int | None = None,
        timeout: float = TIMEOUT_S,
        train_config: object = None,
        evaluate_config: object = None,
        evaluate_fn: object = None,
    ) -> Result:
        """Run all rounds and write the result files.

        Parameters
        ----------
        grid : Grid
            Flower's grid.
        num_rounds : int, optional
            How many rounds; by default as the settings say.
        timeout : float
            How long to wait for all nodes to be there, in seconds.
        initial_arrays, train_config, evaluate_config, evaluate_fn : object
            What Flower's strategies take besides; must be left out, and the line says why.

        Returns
        -------
        Result
            The task's metrics, by round, in `evaluate_metrics_clientapp`; no arrays.

        Raises
        ------
        InputError, RunError
            What is wrong, in one line.
        """
        unused = (initial_arrays, train_config, evaluate_config, evaluate_fn)
        for (name, rule), value in zip(_LEFT_OUT.items(), unused, strict=True):
            if value is not None:
                raise InputError(f"{name} of PeerStrategy.start", type(value).__name__, rule)
        app = running_app()
        in_code = {**self._settings, **({} if num_rounds is None else {"num-rounds": num_rounds})}
        asked = asked_run({**(app.defaults if app else {}), **grid.run.override_config}, in_code)
        _check_serverless(asked.config.method)
        return asked.start(grid, timeout)


def _check_serverless(method: str) -> None:
    if method not in SERVERLESS:
        is_other = "has a server, which PeerStrategy does not play; " if method in METHODS else ""
        raise InputError("method", method, f"{is_other}must be one of {', '.join(sorted(SERVERLESS))}")
