"""Python, the packages and the code that a node runs."""

import importlib
import platform
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from comdml_flwr.cli.doctor.findings import Finding
from comdml_flwr.core.code_digest import code_digest
from comdml_flwr.core.version import CODE_FOLDER

PACKAGE = "comdml-flwr"
NAMED = ("flwr", "torch", "torchvision", "grpcio")  # whose versions are told where all is well
NEED_TORCHVISION = ("cifar-10", "cifar-100", "cinic-10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What an installation must hold: specifiers as packages write them.

    Parameters
    ----------
    python : str
        Of Python, such as ">=3.11".
    packages : Sequence[str]
        Requirements, such as "torch>=2.4"; those of extras are left out.
    """

    python: str
    packages: Sequence[str]


def needed_here() -> Needed:
    """Return what our code needs: as pyproject.toml next to it says, or else its installed metadata."""
    try:
        project = tomllib.loads((CODE_FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == PACKAGE:
            return Needed(python=project["requires-python"], packages=project["dependencies"])
    except (OSError, KeyError, ValueError):
        pass
    found = metadata(PACKAGE)
    return Needed(
        python=found["Requires-Python"],
        packages=[text for text in found.get_all("Requires-Dist") or [] if "extra ==" not in text],
    )


def check_python(needed: Needed) -> Finding:
    """Compare Python's version with what is needed."""
    own, facts = platform.python_version(), {"version": platform.python_version()}
    if SpecifierSet(needed.python).contains(own, prereleases=True):
        return Finding("python", "ok", f"Python {own} is in {needed.python}", facts=facts)
    mend = f"make a virtual environment of a Python {needed.python} and install {PACKAGE} there"
    return Finding("python", "wrong", f"Python {own} is not in {needed.python}", mend, facts)


def check_packages(needed: Needed) -> Iterator[Finding]:
    """Look for packages that are missing or out of range, by their metadata."""
    versions: dict[str, str] = {}
    all_fit = True
    for wanted in map(Requirement, needed.packages):
        own = _version(wanted.name)
        if own is not None and wanted.specifier.contains(own, prereleases=True):
            versions[wanted.name] = own
            continue
        all_fit = False
        is_what = "is not installed" if own is None else f"{own} is not in {wanted.specifier}"
        facts = {"package": wanted.name, "version": own, "needed": str(wanted.specifier)}
        yield Finding("packages", "wrong", f"{wanted.name} {is_what}", f"pip install '{wanted}'", facts)
    if all_fit:
        named = ", ".join(f"{name} {versions[name]}" for name in NAMED if name in versions)
        yield Finding(
            "packages", "ok", f"all {len(versions)} in range: {named}", facts={"versions": versions}
        )


def check_imports(dataset: str) -> Iterator[Finding]:
    """Import torch, and torchvision where the data set needs it: a version does not show a bad build."""
    for name in ("torch", *(("torchvision",) if dataset in NEED_TORCHVISION else ())):
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            mend = f"pip install --force-reinstall {'torch' if name == 'torch' else 'torch torchvision'}"
            yield Finding(name, "wrong", f"it cannot be imported: {reason}", mend)
            return
        yield Finding(name, "ok", "it can be imported")


def check_code() -> Finding:
    """Tell the digest of our code, by which a ServerApp refuses nodes that run other code."""
    digest, folder = code_digest(), str(CODE_FOLDER)
    says = f"{digest[:16]} in {folder}; a run needs the same on all machines"
    return Finding("code", "ok", says, facts={"sha256": digest, "folder": folder})


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
