"""One call of the testbed: measure, calibrate, run each method, compare; then write `testbed.json`."""

import io
import json
import re
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.strict_json import to_json
from comdml_flwr.core.typed_json import Json
from comdml_flwr.planning.fleet.fleet import Fleet
from comdml_flwr.runs.terminal import Terminal
from experiments.testbed.cgroups import Group, Hierarchy
from experiments.testbed.federation import Federation, FinishedRun
from experiments.testbed.hosts import Host
from experiments.testbed.life import living_hosts
from experiments.testbed.measuring import (
    LinkSpeed,
    calibrated_text,
    measure_links,
    measure_quotas,
    measure_shares,
    measure_training,
)
from experiments.testbed.records import Measured, as_json, print_measured, print_runs

_CALIBRATED = "fleet.toml"
RunConfigValues = Mapping[str, bool | int | float | str]
_KEY_AND_VALUE = re.compile(r"""\s*([\w-]+)=('[^']*'|"[^"]*"|\S+)""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one call does.

    Parameters
    ----------
    fleet : Fleet
        As the file has it.
    hosts : tuple[Host, ...]
        What they are asked to be.
    methods : tuple[str, ...]
        One run for each; none: measure only.
    run_config : RunConfigValues
        Of every run; `fleet` is an absolute path.
    tls : bool
        Whether the SuperLink speaks TLS.
    node_config : str
        Added to every SuperNode's node configuration.
    timeout_s : float
        How long one run may take.
    """

    fleet: Fleet
    hosts: tuple[Host, ...]
    methods: tuple[str, ...]
    run_config: RunConfigValues
    tls: bool
    node_config: str
    timeout_s: float

    def check_names(self) -> None:
        """Raise InputError where methods, model or data set are none that this app has."""
        from comdml_flwr.runs.catalogue import Catalogue  # imports torch

        for method in self.methods:
            Catalogue().check(parse_config({**self.run_config, "method": method}))

    def go(self, hierarchy: Hierarchy, output: Path, *, check: bool, calibrate: bool, verify: bool) -> None:
        """Do it all, and leave nothing but a new folder in `output`.

        Raises
        ------
        RunError
            Something failed (the folder has the logs), or `verify` finds other weights.
        """
        folder = _new_folder(output, self.fleet.source)
        print(f"CPU quotas by {hierarchy}; results and logs: {folder}", flush=True)
        about: dict[str, Json] = {
            "fleet": self.fleet.source,
            "cpu_quotas": str(hierarchy),
            "tls": self.tls,
            "calibrated": calibrate,
        }
        values, runs = dict(self.run_config), dict[str, FinishedRun]()
        with living_hosts(self.hosts, hierarchy) as (groups, temporary):
            cpus, links = self._check(groups) if check else ({}, ())
            federation = Federation(
                self.hosts, groups, temporary, folder, tls=self.tls, node_config=self.node_config
            )
            if calibrate or self.methods:
                federation.start()
            training = self._calibrate(federation, groups, folder) if calibrate else {}
            if calibrate:
                values["fleet"] = str(folder / _CALIBRATED)
            measured = Measured(cpus=cpus, training=training, links=links)
            print_measured(self.hosts, measured)
            about["run_config"] = dict(values)
            self._write(folder, measured, runs, about)
            for method in self.methods:
                print(f"running {method} ...", flush=True)
                file = _write_run_config(folder, method, values)
                runs[method] = federation.run(file, folder / method, self.timeout_s)
                self._write(folder, measured, runs, about)  # so a later run's failure costs only that run
        if runs:
            print_runs(runs)
        if verify:
            local = {method: self._local_weights(method, values, folder) for method in runs}
            about["weights_of_local_carrier"] = local
            self._write(folder, measured, runs, about)
            _compare(runs, local)

    def _check(self, groups: Mapping[int, Group]) -> tuple[dict[int, float], tuple[LinkSpeed, ...]]:
        return measure_quotas(self.hosts, groups), measure_links(self.hosts)

    def _calibrate(
        self, federation: Federation, groups: Mapping[int, Group], folder: Path
    ) -> dict[int, tuple[float, float]]:
        print("waiting for idle SuperNodes to measure training beside them ...", flush=True)
        federation.wait_until_idle()
        file = _write_run_config(folder, "calibration", self.run_config)
        training = measure_training(self.hosts, groups, file)
        shares = measure_shares(self.hosts, groups, file)
        about = f"{Path(self.fleet.source).name} with the training speeds that the testbed measured"
        speeds = {agent: flops_per_s for agent, (_, flops_per_s) in training.items()}
        (folder / _CALIBRATED).write_text(
            calibrated_text(self.fleet, speeds, about, shares), encoding="utf-8"
        )
        return training

    def _write(
        self, folder: Path, measured: Measured, runs: Mapping[str, FinishedRun], about: Mapping[str, Json]
    ) -> None:
        text = to_json(as_json(self.hosts, measured, runs, about), indent=2)
        (folder / "testbed.json").write_text(f"{text}\n", encoding="utf-8")

    def _local_weights(self, method: str, values: RunConfigValues, folder: Path) -> str:
        from comdml_flwr.runs.local_run import run_locally  # imports torch

        local = {**values, "method": method, "carrier": "local", "results-dir": str(folder / "local")}
        quiet = Terminal(1, Console(file=io.StringIO()))
        return run_locally(local, num_agents=len(self.hosts), terminal=quiet).weights_sha256


def _compare(runs: Mapping[str, FinishedRun], local: Mapping[str, str]) -> None:
    for method, finished in runs.items():
        there, here = str(finished.summary["weights_sha256"]), local[method]
        if there != here:
            raise RunError(f"{method}: weights {there} on the hosts, {here} by the local carrier")
        print(f"{method}: the same weights as by the local carrier, sha256 {here[:16]}...")


def read_run_config(given: Sequence[str], fleet: Path, rounds: int | None) -> RunConfigValues:
    """Return the run configuration of every run: what differs from the app's defaults.

    Parameters
    ----------
    given : Sequence[str]
        As for `flwr run --run-config`: a TOML file, or key=value, separated by spaces; text is quoted.
    fleet : Path
        Takes the place of `fleet`.
    rounds : int or None
        Takes the place of `num-rounds`; None or 0 leaves it.

    Raises
    ------
    InputError
        What cannot be read, or is no possible value; or a key that the testbed sets itself.
    """
    values: dict[str, bool | int | float | str] = {}
    for text in given:
        values |= _read_toml(Path(text)) if text.endswith(".toml") else _read_words(text)
    for key in ("fleet", "results-dir", "method"):
        if key in values:
            raise InputError("--run-config", key, "is set by the testbed's own arguments")
    values |= {"fleet": str(fleet.absolute())} | ({"num-rounds": rounds} if rounds else {})
    values.setdefault("profiles", "fleet")  # of the file that is calibrated, and that the forecast is made of
    config = parse_config(values)
    if config.carrier == "local":
        raise InputError("carrier", config.carrier, "must be one of those between SuperNodes")
    return values


def _read_toml(file: Path) -> dict[str, bool | int | float | str]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError("--run-config", str(file), error.strerror or "cannot be read") from error
    except ValueError as error:
        raise InputError("--run-config", str(file), f"is not TOML: {error}") from error


def _read_words(text: str) -> dict[str, bool | int | float | str]:
    found, place = [], 0
    while place < len(text.rstrip()):
        match = _KEY_AND_VALUE.match(text, place)
        if match is None:
            raise InputError("--run-config", text[place:].strip(), "must be key=value, separated by spaces")
        found.append(f"{match[1]} = {match[2]}")
        place = match.end()
    try:
        return tomllib.loads("\n".join(found))
    except tomllib.TOMLDecodeError as error:
        raise InputError("--run-config", text, f"values are as in TOML, text in quotes: {error}") from error


def _write_run_config(folder: Path, method: str, values: RunConfigValues) -> Path:
    """Write the run configuration of one run; JSON's scalars are TOML's."""
    own = {"method": method, "results-dir": str(folder / method)} if method != "calibration" else {}
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in {**values, **own}.items())
    file = folder / f"{method}.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _new_folder(output: Path, fleet: str) -> Path:
    folder = output.absolute() / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(fleet).stem}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError("--output", str(output), error.strerror or "cannot be written to") from error
    return folder
