"""Where the relative paths of an app's configuration lead.

They are the app's own. `flwr run` bundles the app's folder and does not tell where that is; a process knows
its bundle and its working directory, which under `flwr run` is where the local SuperLink was started: often
the app's folder, sometimes another app's, whose files must neither be read nor be added to. So a relative
path counts from the working directory, unless that belongs to another app: then from
`~/comdml/<publisher>.<name>`. What is read may also come from the bundle, which holds Python, TOML, Markdown,
YAML and JSON files, and no others.
"""

from collections.abc import Iterator
from pathlib import Path

from comdml_flwr.core.app_folder import AppFolder, app_around, running_app
from comdml_flwr.core.config import RunConfig, find_fleet
from comdml_flwr.core.errors import InputError
from comdml_flwr.core.files import is_file

STAND_IN = "comdml"  # in the user's home


def with_results_placed(config: RunConfig) -> RunConfig:
    """Return the configuration with full paths to where results go, and to the run that goes on.

    Raises
    ------
    InputError
        A path cannot be placed: there is no home folder.
    """
    placed = {"results_dir": str(_placed("results-dir", config.results_dir))}
    if config.resume:
        placed["resume"] = str(_placed("resume", config.resume))
    return config.model_copy(update=placed)


def with_data_found(config: RunConfig) -> RunConfig:
    """Return the configuration with the full path of the data folder.

    The first that there is: of the app's own folder, of the bundle, of where relative paths count from. If
    there is none of them, it is the last.
    """
    app, placed = running_app(), _placed("data-dir", config.data_dir)
    if app:
        bundled, is_of_app = app.path / config.data_dir, app_around(placed) is not None
        placed = bundled if bundled.is_dir() and not (is_of_app and placed.is_dir()) else placed
    return config.model_copy(update={"data_dir": str(placed)})


def fleet_path(name: str) -> Path:
    """Return the path of a configuration's fleet file: of the bundle, or as `find_fleet` finds it.

    Another app's is not taken: where there is none, the path is where it should be.
    """
    app, found = running_app(), find_fleet(name)
    if app and is_file(app.path / name):
        return app.path / name
    return _placed("fleet", name) if found == Path(name).absolute() else found


def notes_on_paths(results_dir: str) -> Iterator[str]:
    """Say in a line each what a user should know: where relative paths lead, and what is bundled in vain."""
    app = running_app()
    if app is None or app.path == Path.cwd():
        return
    if (base := _base(app)) != Path.cwd():
        yield f"the SuperLink was started in another app's folder: relative paths count from {base}"
    if not Path(results_dir).is_absolute() and any((app.path / results_dir).glob("*/rounds.jsonl")):
        yield f"{results_dir}: results of earlier runs travel in the app's bundle; .gitignore should name it"


def _placed(key: str, given: str) -> Path:
    app = running_app()
    try:
        path = Path(given).expanduser()
        return path if path.is_absolute() or app is None else _base(app) / path
    except RuntimeError as error:  # `~somebody` who is not known here, or no home
        raise InputError(key, given, f"must be an absolute path here ({error})") from None


def _base(app: AppFolder) -> Path:
    """Return the folder that an app's relative paths count from."""
    here = Path.cwd()
    other = app_around(here)
    return here if other is None or app.is_copy_of(other) else Path.home() / STAND_IN / app.name
