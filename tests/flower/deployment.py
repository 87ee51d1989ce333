"""A real federation on loopback: a SuperLink with TLS and SuperNode authentication, and SuperNodes."""

import datetime
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from comdml_flwr.core.files import PRIVATE_FILE, write_file
from tests.flower.engine import ROOT, free_port

_APART = (
    *("unshare", "--mount", "--map-root-user"),
    *("sh", "-c", 'mount -t tmpfs tmpfs "$TMPDIR" && exec "$@"', "sh"),
)  # followed by a command: it sees an empty folder for temporary files
_WITH_OWN_DATA = (
    *("unshare", "--mount", "--map-root-user", "sh", "-c"),
    'mount -t tmpfs tmpfs "$TMPDIR" && mount --bind "$1" "$2" && mount -t tmpfs tmpfs "$3" && shift 3'
    ' && exec "$@"',
    "sh",
)  # followed by a node's data, where it sees them, and a folder of which it sees nothing; and a command
_HERE = {**os.environ, "TMPDIR": "/mnt"}
PEM, PRIVATE = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
OPENSSH, PUBLIC = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH


@dataclass
class Federation:
    """Starts and ends everything; `folder` keeps keys, logs, databases and results.

    With `apart`, each SuperNode has a home and temporary files of its own and does not see the others', as if
    on a machine of its own; see `can_be_apart`. With `private` as well, a folder with a folder `node-N` for
    each, a SuperNode sees its own of them as `data_path`, where nobody else sees anything, and nothing of
    `private`.
    """

    folder: Path
    num_nodes: int
    apart: bool = False
    app: Path = ROOT
    private: Path | None = None
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> "Federation":
        self._temporary.mkdir(parents=True, exist_ok=True)
        _make_server_certificate(self.folder)
        self._comdml("certificates", str(self.folder / "peers"), "--agents", f"0-{self.num_nodes - 1}")
        config = self.folder / "home" / "config.toml"
        config.parent.mkdir()
        config.write_text(
            '[superlink]\ndefault = "dep"\n[superlink.dep]\n'
            f'address = "127.0.0.1:{self.port}"\nroot-certificates = "{self.folder}/ca.crt"\n'
        )
        self._start_superlink()
        for number in range(self.num_nodes):
            _make_node_key(self.folder, number)
            self._until_done("supernode", "register", f"{self.folder}/node-{number}.pub", "dep")
        for number in range(self.num_nodes):
            self.start_supernode(number)
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def run(self, run_config: str) -> tuple[Path, str]:
        """Run this checkout's app; return the folder of its results, and the log."""
        results, words = self._run_words(run_config)
        done = self.flwr(*words)
        log = done.stdout + done.stderr
        runs = list(results.glob("*/summary.json"))
        assert len(runs) == 1, log + self.logs()
        return runs[0].parent, log

    def start_run(self, run_config: str) -> Path:
        """Start a run of this checkout's app; return the folder where its results will be."""
        results, words = self._run_words(run_config)
        self._start("run", _program("flwr"), *words)
        return results

    def kill(self, name: str) -> None:
        """Kill a process and all that it started, at once."""
        process = self.processes[name]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def rounds_on_disk(self, number: int) -> list[dict[str, object]]:
        """Return the reports that a node has written, in order."""
        paths = self._temporary.glob(f"*/reports/{number}.jsonl")  # all see the ServerApp's folder
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

    def start_supernode(self, number: int) -> None:
        """Start a SuperNode, for the first time or again."""
        name, peers = f"supernode-{number}", f"{self.folder}/peers/agent-{number}"
        port = self.ports.setdefault(name, free_port())
        node_config = (
            f"partition-id={number} num-partitions={self.num_nodes}"
            f' p2p-address="127.0.0.1:{port}" p2p-certificates="{peers}"'
        )
        if self.private is not None:
            node_config += f' data-path="{self.data_path}"'
        self._start(
            name,
            *self._walls(number),
            _program("flower-supernode"),
            *("--superlink", f"127.0.0.1:{self.port}", "--root-certificates", f"{self.folder}/ca.crt"),
            *("--auth-supernode-private-key", f"{self.folder}/node-{number}"),
            *("--port", str(free_port()), "--node-config", node_config),
            home=self.home_of(number) if self.apart else None,
        )

    @property
    def data_path(self) -> Path:
        """Where each SuperNode sees its own data."""
        return self.folder / "data"

    def _walls(self, number: int) -> tuple[str, ...]:
        if self.private is None:
            return _APART if self.apart else ()
        self.data_path.mkdir(exist_ok=True)
        own = self.private / f"node-{number}"
        return (*_WITH_OWN_DATA, str(own), str(self.data_path), str(self.private))

    def home_of(self, number: int) -> Path:
        """Return Flower's folder on a node that is apart."""
        return self.folder / f"home-{number}"

    def restart_supernode(self, number: int, limit_s: float = 120) -> None:
        """Start a SuperNode that was killed, until the SuperLink has missed the dead one and lets it in."""
        give_up = time.monotonic() + limit_s
        while True:
            self.start_supernode(number)
            try:
                self.processes[f"supernode-{number}"].wait(15)
            except subprocess.TimeoutExpired:
                return  # it runs
            assert time.monotonic() < give_up, self.logs()

    @property
    def _temporary(self) -> Path:
        return self.folder / "tmp"

    def _run_words(self, run_config: str) -> tuple[Path, tuple[str, ...]]:
        results = self.folder / f"results-{time.monotonic_ns()}"
        config = f'{run_config} results-dir="{results}"'
        return results, ("run", str(self.app), "dep", "--stream", "--run-config", config)

    def flwr(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a `flwr` command to its end."""
        command = [_program("flwr"), *words]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    def logs(self) -> str:
        """Return the last lines of all that the processes printed."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log"))
        )

    def _until_done(self, *words: str) -> None:
        give_up = time.monotonic() + 60
        while (done := self.flwr(*words)).returncode:
            assert time.monotonic() < give_up, done.stdout + done.stderr
            time.sleep(1)

    def _start_superlink(self) -> None:
        self._start(
            "superlink",
            _program("flower-superlink"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--ssl-ca-certfile", f"{self.folder}/ca.crt", "--ssl-certfile", f"{self.folder}/server.crt"),
            *("--ssl-keyfile", f"{self.folder}/server.key", "--enable-supernode-auth"),
            *("--database", f"{self.folder}/state.db"),
        )

    def _start(self, name: str, *words: str, home: Path | None = None) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=self.folder,
                env=self._environment() | ({"FLWR_HOME": str(home)} if home else {}),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.processes[name] = process

    def _comdml(self, *words: str) -> None:
        code = "from comdml_flwr.cli.main import main; main()"
        command = [sys.executable, "-c", code, *words]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "TMPDIR": str(self._temporary),
            "FLWR_HOME": str(self.folder / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }


def can_be_apart() -> bool:
    """Tell whether this machine lets us hide folders from processes."""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([*_APART, "true"], env=_HERE, check=False).returncode == 0


def summary_of(run: Path) -> dict[str, object]:
    """Return a run's summary."""
    return dict(json.loads((run / "summary.json").read_text()))


def _program(name: str) -> str:
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


def _make_node_key(folder: Path, number: int) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    write_file(folder / f"node-{number}", private, mode=PRIVATE_FILE)
    (folder / f"node-{number}.pub").write_bytes(key.public_key().public_bytes(OPENSSH, PUBLIC))


def _make_server_certificate(folder: Path) -> None:
    """Make an authority, and a certificate for 127.0.0.1 that it signed."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    builder = x509.CertificateBuilder().not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=2)).issuer_name(authority_name)
    authority = (
        builder.subject_name(authority_name)
        .public_key(authority_key.public_key())
        .serial_number(1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]))
        .public_key(key.public_key())
        .serial_number(2)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(authority.public_bytes(PEM))
    (folder / "server.crt").write_bytes(server.public_bytes(PEM))
    (folder / "server.key").write_bytes(key.private_bytes(PEM, PRIVATE, serialization.NoEncryption()))
