"""Command lines of SuperLink and SuperNodes, and a run's files."""

import json
import tomllib

import pytest

from experiments.testbed import federation
from experiments.testbed.federation import connection_text, read_run, superlink_words, supernode_words
from experiments.testbed.tls import make_certificates
from tests.experiments.testbed.fleets import hosts


@pytest.fixture(autouse=True)
def _any_environment(monkeypatch):
    monkeypatch.setattr(federation, "program", lambda name: name)


def test_without_tls_all_three_say_insecure():
    assert superlink_words(None) == [
        "flower-superlink",
        "--host",
        "10.77.0.1",
        "--port",
        "9300",
        "--insecure",
    ]
    words = supernode_words(hosts()[0], 3, None)
    assert words[:4] == ["flower-supernode", "--insecure", "--superlink", "10.77.0.1:9300"]
    connection = tomllib.loads(connection_text(None))["superlink"]
    assert connection["testbed"] == {"address": "10.77.0.1:9300", "insecure": True}
    assert connection["default"] == "testbed"


def test_with_tls_the_superlink_has_its_key_and_the_others_the_authority(tmp_path):
    made = make_certificates(tmp_path, ("10.77.0.1",))
    words = superlink_words(made)
    assert words[words.index("--ssl-keyfile") + 1] == str(made.server_key)
    assert "--insecure" not in words
    words = supernode_words(hosts()[0], 3, made)
    assert words[words.index("--root-certificates") + 1] == str(made.authority)
    assert "--insecure" not in words
    connection = tomllib.loads(connection_text(made))["superlink"]["testbed"]
    assert connection == {"address": "10.77.0.1:9300", "root-certificates": str(made.authority)}


def test_the_key_is_its_owners_alone_and_the_certificate_names_the_address(tmp_path):
    from cryptography import x509

    made = make_certificates(tmp_path, ("10.77.0.1",))
    assert made.server_key.stat().st_mode & 0o777 == 0o600
    authority, server = (
        x509.load_pem_x509_certificate(file.read_bytes()) for file in (made.authority, made.server)
    )
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["10.77.0.1"]


def test_a_runs_files_are_read_as_they_were_written(tmp_path):
    (tmp_path / "rounds.jsonl").write_text('{"round": 1}\n{"round": 2}\n')
    (tmp_path / "summary.json").write_text(json.dumps({"weights_sha256": "ab"}))
    run = read_run(tmp_path)
    assert [line["round"] for line in run.rounds] == [1, 2]
    assert run.summary == {"weights_sha256": "ab"}
