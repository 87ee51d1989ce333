"""A SuperLink and a SuperNode on each host, and runs of this checkout's app on them.

The SuperLink and `flwr run` are in the bridge's namespace, in a group without a quota. A host does not see
the folder in which the ServerApp puts the files of a run: what it needs comes over its link, as on another
machine. Which agent a SuperNode is, and where peers reach it, stands in its node configuration.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.typed_json import Json
from comdml_flwr.planning.types import SERVER
from experiments.testbed.cgroups import PERIOD_US, Group, num_throttled
from experiments.testbed.hosts import NETWORK, SUPERLINK_ADDRESS, Host
from experiments.testbed.processes import ROOT, Process, last_line, listens, program, start
from experiments.testbed.tls import Certificates, make_certificates

PORT = 9300
CONNECTION = "testbed"
_SUPERNODE_PORT = 9094  # Flower's default for what a SuperNode offers to its own ClientApps
_START_S = 60.0
_IDLE_S = 600.0
_LOOK_S, _BUSY_SHARE = 3.0, 0.2  # an idle SuperNode is held back in some periods, one that starts in most
_POLL_S = 0.5
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def superlink_words(certificates: Certificates | None) -> list[str]:
    """Return the command line of the SuperLink."""
    address = ["--host", SUPERLINK_ADDRESS, "--port", str(PORT)]
    return [program("flower-superlink"), *address, *_tls_of_superlink(certificates)]


def _tls_of_superlink(certificates: Certificates | None) -> list[str]:
    if certificates is None:
        return ["--insecure"]
    files = {
        "--ssl-ca-certfile": certificates.authority,
        "--ssl-certfile": certificates.server,
        "--ssl-keyfile": certificates.server_key,
    }
    return [word for option, file in files.items() for word in (option, str(file))]


def supernode_words(
    host: Host, num_hosts: int, certificates: Certificates | None, more: str = ""
) -> list[str]:
    """Return the command line of a host's SuperNode; `more` is added to its node configuration."""
    tls = ["--insecure"] if certificates is None else ["--root-certificates", str(certificates.authority)]
    where = ["--superlink", f"{SUPERLINK_ADDRESS}:{PORT}"]
    return [program("flower-supernode"), *tls, *where, "--node-config", host.node_config(num_hosts, more)]


def connection_text(certificates: Certificates | None) -> str:
    """Return Flower's config.toml for `flwr run`."""
    tls = f'root-certificates = "{certificates.authority}"' if certificates else "insecure = true"
    head = f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
    return f'{head}address = "{SUPERLINK_ADDRESS}:{PORT}"\n{tls}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """A run's folder, and what its files hold: a mapping for each round, and the summary."""

    folder: Path
    rounds: tuple[Mapping[str, Json], ...]
    summary: Mapping[str, Json]


class Federation:
    """A SuperLink and its SuperNodes.

    Parameters
    ----------
    hosts : Sequence[Host]
        Their namespaces are there.
    groups : Mapping[int, Group]
        Control group of each host, by agent, and of the SuperLink.
    folder : Path
        A temporary folder, which nobody else uses.
    logs : Path
        Where the programs' output goes.
    tls : bool
        Whether they speak TLS, with certificates made here.
    node_config : str
        Added to every SuperNode's.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        groups: Mapping[int, Group],
        folder: Path,
        logs: Path,
        *,
        tls: bool,
        node_config: str,
    ) -> None:
        self._hosts, self._groups, self._folder, self._logs = hosts, groups, folder, logs
        self._certificates = make_certificates(folder, (SUPERLINK_ADDRESS,)) if tls else None
        self._node_config = node_config
        self._server_folder = folder / "server"
        self._processes: dict[str, Process] = {}

    def start(self) -> None:
        """Start the SuperLink, then the SuperNodes; the ServerApp waits until they are there.

        Raises
        ------
        RunError
            The SuperLink does not come up.
        """
        (self._server_folder / "tmp").mkdir(parents=True)
        (self._server_folder / "config.toml").write_text(connection_text(self._certificates))
        superlink = self._run_in_network("superlink", superlink_words(self._certificates))
        give_up = time.monotonic() + _START_S
        while not listens(_tcp_table(superlink.pid), PORT):
            self._check_all_alive()
            if time.monotonic() > give_up:
                raise RunError(
                    f"the SuperLink does not listen after {_START_S:g} s: {self._log('superlink')}"
                )
            time.sleep(_POLL_S)
        for host in self._hosts:
            self._start_supernode(host)

    def wait_until_idle(self) -> None:
        """Wait until the SuperNodes have started: they are up, and their quotas suffice them.

        Raises
        ------
        RunError
            That takes too long, or one has ended.
        """
        give_up = time.monotonic() + _IDLE_S
        while not (self._all_listen() and self._are_idle()):
            self._check_all_alive()
            if time.monotonic() > give_up:
                raise RunError(f"the SuperNodes are not idle after {_IDLE_S:g} s; their logs: {self._logs}")

    def _all_listen(self) -> bool:
        time.sleep(_POLL_S)
        nodes = (self._processes[_node_name(host)].pid for host in self._hosts)
        return all(listens(_tcp_table(node), _SUPERNODE_PORT) for node in nodes)

    def _are_idle(self) -> bool:
        groups = [self._groups[host.agent].folder for host in self._hosts]
        before = [num_throttled(group) for group in groups]
        time.sleep(_LOOK_S)
        most = _LOOK_S * 1e6 / PERIOD_US * _BUSY_SHARE
        return all(num_throttled(group) - b <= most for group, b in zip(groups, before, strict=True))

    def _start_supernode(self, host: Host) -> None:
        home = self._folder / f"host-{host.agent}"
        (home / "tmp").mkdir(parents=True)
        name = _node_name(host)
        self._processes[name] = start(
            host.namespace,
            supernode_words(host, len(self._hosts), self._certificates, self._node_config),
            log=self._logs / f"{name}.log",
            group=self._groups[host.agent],
            hidden=self._server_folder,
            variables={**_QUIET, "FLWR_HOME": str(home), "TMPDIR": str(home / "tmp")},
        )

    def run(self, run_config: Path, results: Path, timeout_s: float) -> FinishedRun:
        """Run the app and read what it wrote.

        Parameters
        ----------
        run_config : Path
            TOML; its results-dir is `results`.
        results : Path
            An empty folder, or none yet.
        timeout_s : float
            How long to wait for the end.

        Raises
        ------
        RunError
            The run failed or takes too long, or a SuperNode or the SuperLink ended.
        """
        words = [program("flwr"), "run", str(ROOT), CONNECTION, "--stream", "--run-config", str(run_config)]
        name = f"run-{results.name}"
        process = self._run_in_network(name, words)
        give_up = time.monotonic() + timeout_s
        while process.poll() is None:
            self._check_all_alive()
            if time.monotonic() > give_up:
                raise RunError(f"{name} is not over after {timeout_s:g} s: {self._log(name)}")
            time.sleep(_POLL_S)
        del self._processes[name]
        summaries = list(results.glob("*/summary.json"))
        if not summaries:
            raise RunError(f"{name} failed: {_reason(results) or self._log(name)}")
        return read_run(summaries[0].parent)

    def _run_in_network(self, name: str, words: Sequence[str]) -> Process:
        folder = self._server_folder
        variables = {**_QUIET, "FLWR_HOME": str(folder), "TMPDIR": str(folder / "tmp")}
        log = self._logs / f"{name}.log"
        self._processes[name] = start(
            NETWORK, words, log=log, group=self._groups[SERVER], variables=variables
        )
        return self._processes[name]

    def _check_all_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() not in (None, 0):
                raise RunError(f"{name} ended with status {process.returncode}: {self._log(name)}")

    def _log(self, name: str) -> str:
        log = self._logs / f"{name}.log"
        return f"{last_line(log)} ({log})"


def _node_name(host: Host) -> str:
    return f"supernode-{host.agent}"


def read_run(folder: Path) -> FinishedRun:
    """Read the files of a run that has succeeded."""
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    return FinishedRun(
        folder=folder,
        rounds=tuple(json.loads(line) for line in lines),
        summary=json.loads((folder / "summary.json").read_text()),
    )


def _reason(results: Path) -> str | None:
    return next((file.read_text().strip() for file in results.glob("*/failed.txt")), None)


def _tcp_table(process: int) -> str:
    try:
        return Path(f"/proc/{process}/net/tcp").read_text()
    except OSError:
        return ""
