"""`comdml doctor` as a user meets it."""

import json
import signal
import subprocess
import sys

import pytest

from tests.carriers.transport.meetings import free_address
from tests.cli.doctor.places import taken_port

COMDML = "from comdml_flwr.cli.main import main; main()"


def test_a_machine_in_order_is_told_so(comdml, here, folder):
    words = ("--certificates", str(folder / "agent-0"), "--agent", "0", "--p2p-address", free_address())
    status, out, err = comdml("doctor", *words)
    assert (status, err) == (0, "")
    for check in ("python", "packages", "torch", "code", "data", "memory", "cores", "certificates"):
        assert any(line.startswith(f"ok       {check}: ") for line in out.splitlines()), check
    assert ", 1 warning, " in out.splitlines()[-1], "no other machine reaches a loopback address"
    assert sorted(path.name for path in here.iterdir()) == ["federation"], "nothing is changed"


def test_what_is_wrong_is_one_line_and_what_mends_it_another(comdml, here):
    with taken_port() as address:
        status, out, err = comdml("doctor", "--p2p-address", address)
    lines = out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("wrong    p2p-address: "))
    assert (status, err) == (1, "")
    assert lines[at + 1].startswith("         -> ss -ltnp")
    assert lines[-1].startswith("1 wrong, ")


def test_json_is_one_object_with_the_same_findings(comdml, here):
    with taken_port() as address:
        status, out, err = comdml("doctor", "--json", "--p2p-address", address)
    assert (status, err) == (1, "")
    told = json.loads(out)
    assert told["ok"] is False
    assert all(finding.keys() == {"check", "state", "says", "mend", "facts"} for finding in told["findings"])
    assert all((finding["state"] == "ok") == (finding["mend"] == "") for finding in told["findings"])
    assert [finding["check"] for finding in told["findings"] if finding["state"] == "wrong"] == [
        "p2p-address"
    ]


def test_the_run_configuration_decides_what_is_looked_for(comdml, here):
    words = ("--set", "dataset=cifar-100", "--set", "data-dir=none", "--set", "threads-per-agent=4096")
    status, out, _ = comdml("doctor", "--json", *words)
    assert status == 1
    states = {finding["check"]: finding["state"] for finding in json.loads(out)["findings"]}
    assert (states["data"], states["cores"], states["torchvision"]) == ("wrong", "warning", "ok")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--superlink", "nowhere"], "--superlink = 'nowhere': must be HOST:PORT"),
        (["--p2p-address", "1.2.3.4:x"], "--p2p-address = '1.2.3.4:x': must be HOST:PORT"),
        (["--p2p-listen", "0.0.0.0:1"], "--p2p-listen = '0.0.0.0:1': needs --p2p-address"),
        (["--agent", "1"], "--certificates, --agent = 'None, 1': need each other"),
        (["--certificates", "x"], "--certificates, --agent = 'x, None': need each other"),
        (["--peers", "1=h:1"], "--peers = '1=h:1': needs --certificates and --agent"),
        (["--peers", "x=h:1", "--certificates", "x", "--agent", "0"], "--peers = 'x=h:1': must be ID=HOST"),
        (["--peers", "1=h", "--certificates", "x", "--agent", "0"], "--peers = 'h': must be HOST:PORT"),
        (["--peers", "none.txt", "--certificates", "x", "--agent", "0"], "--peers = 'none.txt': must be ID="),
        (["--listen"], "--listen = True: needs --peers"),
        (
            ["--listen", "--peers", "1=h:1", "--certificates", "x", "--agent", "0"],
            "--listen = True: needs --p2p",
        ),
        (["--listen", "--json"], "--listen = True: cannot go with --json"),
        (["--set", "batch-size=0"], "batch-size = 0: must"),
        (["--set", "batchsize=1"], "batchsize = 1: is no key"),
        (["--set", "batch-size"], "--set = 'batch-size': must be KEY=VALUE"),
        (["--root-certificates", "none.crt"], "Invalid value for '--root-certificates'"),
    ],
)
def test_bad_input_is_one_line_before_any_check(comdml, here, words, line):
    status, out, err = comdml("doctor", *words)
    assert (status, out) == (2, "")
    assert err.startswith(f"comdml: {line}")
    assert len(err.splitlines()) == 1


def test_a_file_of_peers_may_name_this_machine_and_then_says_its_address(comdml, here, folder):
    address = free_address()
    (here / "peers.txt").write_text(f"# ours\n0={address} # this one\n\n1={free_address()}\n")
    words = ("--certificates", str(folder / "agent-0"), "--agent", "0", "--peers", "peers.txt", "--json")
    status, _, line = comdml("doctor", *words, "--peers", "1=127.0.0.1:2")
    assert (status, line) == (2, "comdml: --peers = '1=127.0.0.1:2': must name agent 1 once\n")
    found = json.loads(comdml("doctor", *words)[1])["findings"]
    (port,) = (finding for finding in found if finding["check"] == "p2p-address")
    assert port["says"].startswith(f"{address} is free")
    assert [finding["check"] for finding in found if finding["check"].startswith("peer")] == ["peer 1"]


def test_one_machine_listens_until_ctrl_c_and_another_measures_its_way_there(comdml, here, folder):
    (here / "peers.txt").write_text(f"0={free_address()}\n1={free_address()}\n")
    words = ("--peers", "peers.txt", "--certificates")
    one = [
        sys.executable,
        "-c",
        COMDML,
        "doctor",
        *words,
        str(folder / "agent-1"),
        "--agent",
        "1",
        "--listen",
    ]
    with subprocess.Popen(one, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert any(line.startswith("listening on 127.0.0.1:") for line in process.stdout)
            status, out, _ = comdml("doctor", *words, str(folder / "agent-0"), "--agent", "0")
            assert process.stdout.readline() == "agent 0 reaches this machine\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert status == 0
    assert "ok       peer 1: 127.0.0.1:" in out
    assert "bps to it" in out


def test_it_does_not_listen_without_its_port_or_certificates(comdml, here, folder):
    peers = ("--peers", f"1={free_address()}", "--agent", "0", "--certificates")
    with taken_port() as address:
        words = (*peers, str(folder / "agent-0"), "--listen", "--p2p-address", address)
        status, out, _ = comdml("doctor", *words)
    assert (status, "not listening" in out) == (1, True)
    status, out, _ = comdml("doctor", *peers, "none", "--listen", "--p2p-address", free_address())
    assert (status, "not listening" in out) == (1, True)


def test_peers_are_dialled_where_certificates_work_even_if_the_key_is_not_safe(comdml, here, folder):
    words = ("--json", "--peers", f"1={free_address()}", "--agent", "0", "--certificates")
    for mode, own, num_peers in ((0o644, "agent-0", 1), (0o600, "agent-0", 1), (0o600, "agent-2", 0)):
        (folder / own / "agent.key").chmod(mode)
        found = json.loads(comdml("doctor", *words, str(folder / own))[1])["findings"]
        wrong = [finding["check"] for finding in found if finding["state"] == "wrong"]
        assert wrong.count("peer 1") == num_peers
        assert ("certificates" in wrong) == (mode != 0o600 or own != "agent-0")


def test_help_teaches_and_loads_nothing_that_takes_long():
    code = f"import sys\ntry: exec('{COMDML}')\nexcept SystemExit: print(*sys.modules)"
    words = [sys.executable, "-c", code, "doctor", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    *text, modules = done.stdout.splitlines()
    assert not {"torch", "flwr", "grpc", "cryptography", "numpy", "pydantic"} & set(modules.split())
    for word in ("--superlink", "--peers", "--listen", "Example: comdml doctor --certificates agent-0"):
        assert word in "\n".join(text)
