"""The container files: what they copy, name and mount is there, and the programs know the options."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from comdml_flwr.carriers.transport.credentials import load_credentials
from tests.flower.engine import ROOT
from tests.programs import known_options, options_of

FOLDER = ROOT / "containers"
MOUNTED = "/etc/comdml"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
SUPERNODES = {name: service for name, service in SERVICES.items() if name.startswith("supernode")}


def stages():
    """Return the text of each stage, by name, that of the stage it begins from included."""
    found = {}
    for base, name, text in re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.M | re.S):
        found[name] = found.get(base, "") + text
    return found


def started_by(service):
    """Return the words with which a service's container starts, without the init."""
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", stages()[service["build"]["target"]], re.M)
    init, dashes, *words = json.loads(entry)
    assert (init, dashes) == ("tini", "--")
    return [*words, *service["command"]]


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """Make keys and certificates as the script does."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "containers").mkdir()
    shutil.copy(FOLDER / "make_keys.sh", folder / "containers")
    program = folder / "comdml"
    code = "from comdml_flwr.cli.main import main; main()"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$@\"\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    words = ["sh", str(folder / "containers" / "make_keys.sh")]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    again = subprocess.run(words, env=environment, check=False, capture_output=True)
    assert again.returncode != 0  # it never overwrites
    return folder / "containers" / "federation"


def test_what_is_copied_is_there_and_in_the_build_context():
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (.*)$", DOCKERFILE, re.M)]
    files = [word for words in copied for word in words if not word.startswith("--")]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"]
    assert sorted(files) == sorted(allowed)
    assert all((ROOT / file).exists() for file in files)


def test_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (flower,) = (need for need in map(Requirement, project["dependencies"]) if need.name == "flwr")
    (version,) = re.findall(r"^ARG FLWR_VERSION=(.*)$", DOCKERFILE, re.M)
    (python,) = re.findall(r"^FROM python:([\d.]+)-", DOCKERFILE, re.M)
    assert flower.specifier.contains(version)
    assert SpecifierSet(project["requires-python"]).contains(python)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_built_from_a_stage_with_options_that_exist(name):
    service = SERVICES[name]
    assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).samefile(
        FOLDER / "Dockerfile"
    )
    words = started_by(service)
    assert known_options(words)
    assert not options_of(words) - known_options(words)
    stage = stages()[service["build"]["target"]]
    assert re.findall(r"^USER (.*)$", stage, re.M) == ["10001"]
    assert "HEALTHCHECK" in stage


@pytest.mark.skipif(
    not all(map(shutil.which, ("openssl", "ssh-keygen"))), reason="needs openssl and ssh-keygen"
)
def test_what_is_mounted_is_what_the_script_makes(federation):
    for name, service in SERVICES.items():
        (mount,) = (volume for volume in service["volumes"] if volume.startswith("."))
        assert mount == f"./federation/{name}:{MOUNTED}:ro"
        paths = re.findall(rf"{MOUNTED}/([\w.-]+)", " ".join(service["command"]))
        assert paths
        for path in paths:
            assert (federation / name / path).exists(), path
    for number, name in enumerate(SUPERNODES):
        assert load_credentials(federation / name / "peer", number)
        assert (federation / f"node-{number}.pub").read_text().startswith("ecdsa-sha2-nistp384 ")


def test_each_supernode_is_an_agent_of_its_own_reached_by_its_name():
    for number, (name, service) in enumerate(SUPERNODES.items()):
        (config,) = (word for word in service["command"] if word.startswith("--node-config="))
        assert f"partition-id={number} num-partitions={len(SUPERNODES)} " in config
        assert f'p2p-address="{name}:9500"' in config
