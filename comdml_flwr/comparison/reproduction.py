"""What it takes to have a comparison again: its file, its fleets, and what trained its runs.

    FOLDER/reproduce.toml              the comparison file as it was run, with what --smoke replaced
           fleets/<case>/<name>.toml   each case's fleet in full, unless it is a preset
           runs/.../software.json      versions, and the machine's type, as the run's worker has them

`comdml compare FOLDER/reproduce.toml` is the same comparison: with the same software, on the same type of
machine, its comparison.json has the same bytes.
"""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from comdml_flwr.comparison.records import COMPARISON_FILE, as_name
from comdml_flwr.comparison.settings import Case, Comparison
from comdml_flwr.comparison.tables import Scalar
from comdml_flwr.core.code_digest import code_digest
from comdml_flwr.core.version import __version__
from comdml_flwr.planning.fleet.presets import FIXED

PACKAGES = ("torch", "torchvision", "flwr", "numpy", "scipy", "scikit-learn")  # what results may depend on


def software() -> dict[str, str]:
    """Return versions and type of this machine: what the bits of a run depend on besides its settings."""
    import torch

    ours = f"{__version__}, code {code_digest()[:16]}"
    found = {"comdml-flwr": ours, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = torch.__version__ if name == "torch" else version(name)
        except PackageNotFoundError:
            continue
    machine = f"{platform.system()} {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return {**found, "machine": machine}


def input_files(comparison: Comparison) -> dict[str, bytes]:
    """Return the comparison file and the fleets by their path in the comparison's folder."""
    fleets = {
        _fleet_file(case): case.fleet_text.encode() for case in comparison.cases if not _is_preset(case)
    }
    return {**fleets, COMPARISON_FILE: comparison_text(comparison).encode()}


def comparison_text(comparison: Comparison) -> str:
    """Return a comparison file that says what was compared."""
    tables: list[tuple[str, Mapping[str, object]]] = [
        (
            "",
            {
                "name": comparison.name,
                "about": comparison.about,
                "seeds": comparison.seeds,
                "targets": comparison.targets,
                "reference": comparison.reference,
                **({"app": str(comparison.app.folder.path)} if comparison.app else {}),
            },
        ),
        ("[run]", comparison.keys),
        *(("[[methods]]", {"label": method.label, **method.keys}) for method in comparison.methods),
        *(
            ("[[cases]]", {"label": case.label, **_fleet_keys(case), **case.keys})
            for case in comparison.cases
        ),
    ]
    return "\n".join(_table(name, keys) for name, keys in tables)


def _fleet_keys(case: Case) -> dict[str, Scalar]:
    if case.fleet_seed is not None:
        preset = case.fleet.removesuffix(f", seed {case.fleet_seed}")
        return {"fleet": preset, "fleet-seed": case.fleet_seed, "num-agents": case.num_agents}
    fleet = case.fleet if _is_preset(case) else _fleet_file(case)
    return {"fleet": fleet, "num-agents": case.num_agents}


def _is_preset(case: Case) -> bool:
    return case.fleet == FIXED or case.fleet_seed is not None


def _fleet_file(case: Case) -> str:
    return f"fleets/{as_name(case.label)}/{case.fleet.rpartition('/')[2]}"


def _table(name: str, keys: Mapping[str, object]) -> str:
    lines = [name] if name else []
    return "".join(f"{line}\n" for line in [*lines, *(f"{key} = {_value(v)}" for key, v in keys.items())])


def _value(value: object) -> str:
    """Return a value as TOML writes it: JSON does, but for one sign that it leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
