"""The comparison file: which methods are compared, on which cases, with which seeds.

    name = "main"                       # names the folder and heads the report
    about = "Ten unequal devices"       # one line, optional
    seeds = [1, 2, 3]
    targets = [0.90, 0.95]              # accuracies (or the task's metric): how long does it take there?
    reference = "AllReduce"             # label of the method that ratios are taken to
    app = "../my-app"                   # folder of an app of the user's own, from this file's; optional

    [run]                               # keys of the run configuration, for all runs
    num-rounds = 20

    [[methods]]                         # a label, and any keys of the run configuration
    label = "ComDML"
    method = "comdml"
    [[methods]]
    label = "AllReduce"
    method = "allreduce"

    [[cases]]                           # a label, a fleet, and any keys of the run configuration
    label = "10 agents"
    fleet = "fleets/mine.toml"         # counted from this file's folder; or a preset, such as "comdml-10"
    # fleet-seed = 1                    # of a preset
    num-agents = 10                     # those with the lowest ids

    [smoke]                             # what --smoke replaces; optional
    seeds = [1]
    targets = [0.5]
    num-agents = 3                      # of all cases
    cases = 1                           # how many, from the first
    num-rounds = 1                      # keys of the run configuration: they win over all others

A case's keys win over a method's, those over [run]'s, those over the app's, those over the defaults. `seed`,
`carrier` and `results-dir` are not set there, and `fleet` only in a case. A relative `data-dir` counts from
the working directory, as in every run. Everything is checked before anything is trained.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from comdml_flwr.comparison.records import run_folder
from comdml_flwr.comparison.tables import (
    NOT_HERE,
    CaseTable,
    ComparisonFile,
    Keys,
    RunTable,
    Scalar,
    read_tables,
)
from comdml_flwr.core.config import RunConfig, parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.metrics import CLASSIFICATION_METRICS, check_target
from comdml_flwr.planning.fleet.fleet_file import parse_fleet, self_contained_text
from comdml_flwr.planning.fleet.presets import FIXED, FLEET_NAMES, PRESETS, preset_text
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.own_app import OwnApp, load_app

RESULTS_DIR = "runs"  # what config.json says of every run: where it was trained is of no interest


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method under its label.

    Parameters
    ----------
    label : str
        What tables and plots call it.
    keys : Mapping[str, Scalar]
        Its keys of the run configuration.
    """

    label: str
    keys: Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Devices, and what else is particular.

    Parameters
    ----------
    label : str
        What tables and plots call it.
    fleet, fleet_text : str
        What the fleet is called, and its file in full: it travels to workers on other machines.
    num_agents : int
        How many of the fleet take part: those with the lowest ids.
    keys : Mapping[str, Scalar]
        Its keys of the run configuration.
    fleet_seed : int or None
        Of a preset that is drawn; None: the fleet is a file, or a preset that is not.
    """

    label: str
    fleet: str
    fleet_text: str
    num_agents: int
    keys: Keys
    fleet_seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A checked comparison file; see the module docstring."""

    name: str
    about: str
    seeds: tuple[int, ...]
    targets: tuple[float, ...]
    reference: str
    keys: Keys
    methods: tuple[Method, ...]
    cases: tuple[Case, ...]
    app: OwnApp | None = None

    @property
    def catalogue(self) -> Catalogue:
        """Which models and data there are."""
        return self.app.catalogue if self.app else Catalogue()

    def config(self, case: Case, method: Method, seed: int) -> RunConfig:
        """Return the configuration of a run; it names the fleet, not the file that a worker writes."""
        ours: Keys = {"seed": seed, "carrier": "local", "fleet": case.fleet, "results-dir": RESULTS_DIR}
        keys = {**self.keys, **method.keys, **case.keys, "profiles": "fleet", **ours}
        return self.catalogue.with_own_names(parse_config(keys))


def load_comparison(path: Path, *, smoke: bool = False, app: Path | None = None) -> Comparison:
    """Read and check a comparison file.

    Parameters
    ----------
    path : Path
        TOML, see the module docstring.
    smoke : bool
        Replace what [smoke] says; the name gets `-smoke`, so a real comparison's results are not touched.
    app : Path, optional
        Folder of an app, instead of the file's.

    Raises
    ------
    InputError
        In one line: the file, the place in it, the value and the rule that it breaks.
    RunError
        The app's code fails when it is imported.
    """
    file = read_tables(path)
    if smoke:
        file = _smoke(path, file)
    own = load_app(app or path.parent / file.app) if app or file.app else None
    comparison = Comparison(
        name=file.name,
        about=file.about,
        seeds=tuple(file.seeds),
        targets=tuple(file.targets),
        reference=file.reference,
        keys={**_keys_of(own), **file.run.run_keys()},
        methods=tuple(Method(label=table.label, keys=table.run_keys()) for table in file.methods),
        cases=tuple(_case(f"{path}: cases[{n}]", path.parent, table) for n, table in enumerate(file.cases)),
        app=own,
    )
    _check_names(path, comparison)
    _check_targets(path, comparison)
    _check_runs(path, comparison)
    return comparison


def _keys_of(app: OwnApp | None) -> dict[str, Scalar]:
    """Return the keys of an app's own configuration that a comparison may have."""
    if app is None:
        return {}
    return {
        key: value for key, value in app.defaults.items() if key not in NOT_HERE and isinstance(value, Scalar)
    }


def _smoke(path: Path, file: ComparisonFile) -> ComparisonFile:
    """Return the file as `--smoke` has it."""
    if file.smoke is None:
        raise InputError(f"{path}: smoke", None, "must be given for --smoke")
    keys = file.smoke.run_keys()
    cases = [
        case.model_copy(update={"num_agents": file.smoke.num_agents or case.num_agents})
        for case in file.cases[: file.smoke.cases]
    ]
    for table in (*cases, *file.methods):
        for key in keys:
            (table.model_extra or {}).pop(key, None)
    return file.model_copy(
        update={
            "name": f"{file.name}-smoke",
            "seeds": file.smoke.seeds or file.seeds,
            "targets": file.smoke.targets or file.targets,
            "run": RunTable(**{**file.run.run_keys(), **keys}),
            "cases": cases,
        }
    )


def _case(place: str, folder: Path, table: CaseTable) -> Case:
    fleet, text, seed = _fleet(place, folder, table)
    num_there = len(parse_fleet(text, fleet).agents)
    if table.num_agents > num_there:
        raise InputError(
            f"{place}.num-agents",
            table.num_agents,
            f"must be at most {num_there}: {fleet} has no more agents",
        )
    return Case(
        label=table.label,
        fleet=fleet,
        fleet_text=text,
        num_agents=table.num_agents,
        keys=table.run_keys(),
        fleet_seed=seed,
    )


def _fleet(place: str, folder: Path, table: CaseTable) -> tuple[str, str, int | None]:
    """Return what a case's fleet is called, its text, and the seed of a preset."""
    if table.fleet == FIXED and table.fleet_seed is None:
        return FIXED, preset_text(FIXED), None
    if table.fleet in PRESETS:
        seed = 1 if table.fleet_seed is None else table.fleet_seed
        return f"{table.fleet}, seed {seed}", preset_text(table.fleet, seed=seed), seed
    if table.fleet_seed is not None:
        rule = f"is of a preset: {', '.join(PRESETS)}"
        raise InputError(f"{place}.fleet-seed", table.fleet_seed, rule)
    path = folder / table.fleet
    if not path.is_file():
        rule = f"is neither a file ({path}) nor a preset ({', '.join(FLEET_NAMES)})"
        raise InputError(f"{place}.fleet", table.fleet, rule)
    return table.fleet, self_contained_text(path), None


def _check_names(path: Path, comparison: Comparison) -> None:
    for place, labels in (
        ("methods", [method.label for method in comparison.methods]),
        ("cases", [case.label for case in comparison.cases]),
    ):
        folders: dict[Path, str] = {}
        for number, label in enumerate(labels):
            other = folders.setdefault(run_folder(Path(), label, label, 0), label)
            if other is not label:
                rule = f"names the same folder as {other!r}: labels must differ in letters or digits"
                raise InputError(f"{path}: {place}[{number}].label", label, rule)
    labels = [method.label for method in comparison.methods]
    if comparison.reference not in labels:
        near = get_close_matches(comparison.reference, labels, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f": {', '.join(labels)}"
        raise InputError(f"{path}: reference", comparison.reference, f"must be the label of a method{hint}")


def _check_targets(path: Path, comparison: Comparison) -> None:
    """Refuse targets that no model can reach, as far as the metric is known before data are loaded."""
    catalogue = comparison.catalogue
    metrics = catalogue.own_data.task.metrics if catalogue.own_data else CLASSIFICATION_METRICS
    if not catalogue.datasets:  # or each may have a task of its own
        for number, target in enumerate(comparison.targets):
            check_target(target, metrics, f"{path}: targets[{number}]")


def _check_runs(path: Path, comparison: Comparison) -> None:
    """Check the configuration of every run, and say in which table what is wrong stands."""
    for number, case in enumerate(comparison.cases):
        for other, method in enumerate(comparison.methods):
            for seed in comparison.seeds:
                try:
                    comparison.catalogue.check(comparison.config(case, method, seed))
                except InputError as error:
                    places = ((f"cases[{number}]", case.keys), (f"methods[{other}]", method.keys))
                    place = next((f"{name}." for name, keys in places if error.what in keys), "run.")
                    place = "seeds" if error.what == "seed" else f"{place}{error.what}"
                    raise InputError(f"{path}: {place}", error.value, error.rule) from None
