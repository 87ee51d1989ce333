"""A run that goes on: what its folder says, and whether what is asked now fits.

Nothing is changed here: whatever is wrong is told while the folder is as it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from comdml_flwr.core.config import RunConfig, find_fleet, keys_declared, parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.files import is_file
from comdml_flwr.core.strict_json import read_json_file
from comdml_flwr.planning.fleet.fleet import Fleet
from comdml_flwr.planning.fleet.fleet_file import is_preset, parse_fleet, self_contained_text
from comdml_flwr.planning.participation import draw_participants, newcomers_after
from comdml_flwr.runs.checkpoint_folders import rounds_in
from comdml_flwr.runs.checkpoints import FOLDER, Checkpoint, read_checkpoint
from comdml_flwr.runs.loop import has_ended
from comdml_flwr.runs.record_reading import read_record
from comdml_flwr.runs.records import RoundRecord, RunRecord
from comdml_flwr.runs.rounds_file import read_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A run that goes on.

    Parameters
    ----------
    folder : Path
        Of the run.
    config : RunConfig
        With what may change and was asked for.
    checkpoint : Checkpoint
        From which it goes on.
    record : RunRecord
        The rounds that are over.
    """

    folder: Path
    config: RunConfig
    checkpoint: Checkpoint
    record: RunRecord

    @property
    def checkpoint_folder(self) -> Path:
        """Where the checkpoint lies."""
        return self.folder / FOLDER / str(self.checkpoint.round)

    @property
    def fleet(self) -> Fleet:
        """The fleet that the run began with."""
        return parse_fleet(self.checkpoint.fleet, self.config.fleet)

    @property
    def line(self) -> str:
        """What a person is told."""
        return f"goes on after round {self.checkpoint.round} of {self.config.num_rounds}: {self.folder}"

    def check_agents(self, ids: tuple[int, ...]) -> None:
        """Raise InputError unless these are the run's agents."""
        if ids != self.checkpoint.ids:
            rule = f"has {len(self.checkpoint.ids)} agents, {len(ids)} are there; it needs the same ones"
            raise InputError("resume", str(self.folder), rule)


def given_to_flower(run_config: Mapping[str, object], of_app: Mapping[str, object]) -> dict[str, object]:
    """Return the values that differ from their defaults: Flower hands over all, given or not.

    Defaults are the app's own (`of_app`: its `[tool.flwr.app.config]`), and ours for the keys it leaves out.
    """
    defaults: Mapping[str, object] = {**parse_config({}).with_defaults_named(), **of_app}
    return {key: value for key, value in run_config.items() if key not in defaults or value != defaults[key]}


def find_run(folder: str, given: Mapping[str, object], find: Callable[[str], Path] = find_fleet) -> Resumed:
    """Find out how a run goes on.

    Parameters
    ----------
    folder : str
        Of the run; a relative one counts from the working directory.
    given : Mapping[str, object]
        Keys of the run configuration that were asked for now; the others are those of the run.
    find : Callable[[str], Path]
        Where a fleet file lies.

    Raises
    ------
    InputError
        It is no run's folder, it has no checkpoint or a damaged one, it has finished, or what is asked for
        contradicts it; one line.
    """
    path = _absolute(folder)
    config = _with(given, _stored_config(path), path)
    _check_unfinished(path, config)
    checkpoint = _newest(path, config)
    if checkpoint.at_nodes and (path / "summary.json").exists():
        rule = "has finished, and its nodes have removed what they kept of it"
        raise InputError("resume", str(path), rule)
    _check_fleet(config, checkpoint, find)
    rounds = _rounds(path, checkpoint.round)
    record = RunRecord(rounds=rounds, digests=checkpoint.digests, gone=checkpoint.gone)
    return Resumed(folder=path, config=config, checkpoint=checkpoint, record=record)


def _absolute(folder: str) -> Path:
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError as error:  # `~somebody` who is not known here
        raise InputError("resume", folder, str(error)) from None


def _stored_config(folder: Path) -> RunConfig:
    try:
        values = read_json_file(folder / "config.json")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError("resume", str(folder), f"must be a run's folder; config.json: {reason}") from None
    if not isinstance(values, dict):
        raise InputError("resume", str(folder), "must be a run's folder; config.json is no table")
    return parse_config(values)


def _with(given: Mapping[str, object], stored: RunConfig, folder: Path) -> RunConfig:
    """Return a run's configuration with what may change; InputError where something else differs."""
    may_change = keys_declared("on_resume", "may change")
    asked, has = parse_config(given).with_defaults_named(), stored.with_defaults_named()
    for key in given:
        if key not in may_change | keys_declared("on_resume", "not compared") and asked[key] != has.get(key):
            its_own = repr(has[key]) if key in has else "none"
            raise InputError(key, asked[key], f"contradicts the run in {folder}, which has {its_own}")
    return parse_config({**has, **{key: asked[key] for key in given if key in may_change}})


def _check_unfinished(folder: Path, config: RunConfig) -> None:
    if not (folder / "summary.json").exists():
        return
    num_rounds = _num_lines(folder)
    if config.num_rounds <= num_rounds:
        rule = f"has finished its {num_rounds} rounds; a larger num-rounds trains on"
        raise InputError("resume", str(folder), rule)
    if has_ended(_rounds(folder, num_rounds), config):
        reached = f"its target-metric {config.target_metric:g} in round {num_rounds}"
        raise InputError("resume", str(folder), f"has finished: it reached {reached}; a larger one trains on")


def _newest(folder: Path, config: RunConfig) -> Checkpoint:
    """Return the newest checkpoint that an undisturbed run of `num_rounds` rounds comes by, too.

    In its last round nobody hands the model to those who come in the next one. So where a run that has ended
    is to have more rounds, and somebody comes, it goes on from the checkpoint before.
    """
    found = rounds_in(folder / FOLDER)
    if not found:
        rule = "has no checkpoint to go on from: it kept none (checkpoint-every), or ended before the first"
        raise InputError("resume", str(folder), rule)
    for round_ in reversed(found):
        checkpoint = read_checkpoint(folder, round_)
        if config.num_rounds < checkpoint.round:
            rule = f"must be at least {checkpoint.round}: as many are over"
            raise InputError("num-rounds", config.num_rounds, rule)
        if _comes_by(checkpoint, config):
            return checkpoint
    rule = (
        f"has no checkpoint that a run of {config.num_rounds} rounds comes by: who comes next gets the model"
        " in all but the last"
    )
    raise InputError("resume", str(folder), rule)


def _comes_by(checkpoint: Checkpoint, config: RunConfig) -> bool:
    """Tell whether the same agents were handed the model as in a run with this number of rounds."""
    availability = parse_fleet(checkpoint.fleet, config.fleet).availability

    def present(round_: int) -> tuple[int, ...]:
        return draw_participants(checkpoint.ids, config.participation, config.seed, round_, availability)

    then, now = (
        newcomers_after(checkpoint.round, num_rounds, present)
        for num_rounds in (checkpoint.num_rounds, config.num_rounds)
    )
    return then == now


def _check_fleet(config: RunConfig, checkpoint: Checkpoint, find: Callable[[str], Path]) -> None:
    """Raise InputError if the fleet file is there and not what it was."""
    path = find(config.fleet)
    if (is_preset(path) or is_file(path)) and self_contained_text(path) != checkpoint.fleet:
        raise InputError("fleet", config.fleet, "has changed since the run began")


def _rounds(folder: Path, count: int) -> tuple[RoundRecord, ...]:
    """Return the records of the first rounds in `rounds.jsonl`."""
    try:
        records = tuple(map(read_record, read_lines(folder / "rounds.jsonl", count)))
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError("resume", str(folder), f"has a damaged rounds.jsonl: {reason}") from None
    if [record.round for record in records] != list(range(1, count + 1)):
        raise InputError("resume", str(folder), f"has a rounds.jsonl without the rounds 1 to {count}")
    return records


def _num_lines(folder: Path) -> int:
    try:
        return (folder / "rounds.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0
