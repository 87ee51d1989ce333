"""An environment in which this package is installed from its wheel: nothing in it sees the checkout.

What the package needs is not installed again: the environment looks it up in the one that runs the tests.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path

from tests.flower.engine import ROOT

_SCRIPT = "#!{python}\nimport sys\nfrom {module} import {attribute}\nsys.exit({attribute}())\n"


def install_wheel(folder: Path) -> Path:
    """Build the wheel, install it in a new environment in a folder, and return the environment's Python."""
    source, wheels, environment = folder / "source", folder / "wheels", folder / "environment"
    shutil.copytree(ROOT / "comdml_flwr", source / "comdml_flwr")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", str(source), "--no-deps", "--wheel-dir", str(wheels)], check=True)
    shutil.rmtree(source)
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    # A plain line in a .pth file adds a folder, but does not follow that folder's own .pth files.
    (site_packages / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for script in distribution("flwr").entry_points.select(group="console_scripts"):
        path = python.with_name(script.name)
        path.write_text(_SCRIPT.format(python=python, module=script.module, attribute=script.attr))
        path.chmod(0o755)
    return python


def comdml(python: Path, *words: str, cwd: Path) -> str:
    """Run a `comdml` command of an environment; return what it prints."""
    command = [str(python.with_name("comdml")), *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
