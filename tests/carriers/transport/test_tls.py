"""With real certificates: members get their mail, and nobody else gets anything."""

import datetime
import shutil
import socket
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from comdml_flwr.carriers.sealed.revoked import read_revoked
from comdml_flwr.carriers.transport import certificates
from comdml_flwr.carriers.transport.certificates import make_certificates
from comdml_flwr.carriers.transport.channels import new_channel
from comdml_flwr.carriers.transport.credentials import Credentials, load_credentials
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.incoming import METHOD, RECEIVER, RUN, SENDER, SERVICE
from comdml_flwr.carriers.transport.members import Limits, Member
from comdml_flwr.core.errors import InputError, PeerGoneError
from tests.carriers.transport.meetings import SHORT, TOKEN, addresses, by_reason, mail, meeting, received


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation")
    make_certificates(folder, range(4), {}, days=1)
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The folder of a federation with an authority of its own."""
    folder = tmp_path_factory.mktemp("foreign")
    make_certificates(folder, range(4), {}, days=1)
    return folder


def credentials_of(folder, agent, **changes):
    own = folder / f"agent-{agent}"
    files = {
        "authority_pem": (own / "ca.crt").read_bytes(),
        "certificate_pem": (own / "agent.crt").read_bytes(),
        "key_pem": (own / "agent.key").read_bytes(),
    }
    return Credentials(**{**files, **changes})


def refusal(members, credentials, *, own=0, to=1, token=TOKEN, revoked=()):
    """Send to agent 1 with these credentials, and return why it is gone."""
    with Transport(own, members[own].address, members, credentials, token, limits=SHORT) as transport:
        transport.send(mail(own, to))
        with pytest.raises(PeerGoneError) as caught:
            transport.flush(10)
    return caught.value.reason


def test_members_mail_each_other_over_mutual_tls(folder):
    with meeting(addresses(3), folder=folder) as (one, two, three):
        one.send(mail(0, 1, num_bytes=3_000_000, value=1))
        two.send(mail(1, 2, value=2))
        three.send(mail(2, 0, value=3))
        assert [received(member, 1)[0].arrays["x"][0] for member in (two, three, one)] == [1, 2, 3]
        for member in (one, two, three):
            member.flush(5)
            assert not member.refused


def test_a_certificate_of_another_authority_is_not_let_in(folder, foreign, caplog):
    """It trusts us, so that it is our side that refuses: counted each time, logged once."""
    members = addresses(3)
    authority = (folder / "ca.crt").read_bytes()
    with meeting(members, folder=folder, who={1, 2}) as (two, three):
        three.send(mail(2, 1))  # a member, meanwhile
        for _ in range(2):
            refusal(members, credentials_of(foreign, 0, authority_pem=authority))
        assert received(two, 1)[0].sender == 2
        give_up = time.monotonic() + 20
        while two.refused.get(("not a member", None), 0) < 2 and time.monotonic() < give_up:
            time.sleep(0.1)
        assert {*two.refused} == {("not a member", None)}
        assert not three.refused
    told = [record for record in caplog.records if "nobody proved to be one" in record.message]
    assert len(told) == 1


def test_members_are_never_counted_as_strangers(folder):
    with meeting(addresses(2), folder=folder) as (one, two):
        for value in range(3):
            one.send(mail(0, 1, value=value))
            two.send(mail(1, 0, value=value))
            time.sleep(1.0)
        assert (len(received(one, 3)), len(received(two, 3))) == (3, 3)
        assert (one.refused, two.refused) == ({}, {})


def test_nobody_talks_to_a_peer_with_a_certificate_of_another_authority(folder, foreign):
    members = addresses(2)
    stranger = credentials_of(foreign, 1, authority_pem=(folder / "ca.crt").read_bytes())
    with Transport(1, members[1].address, members, stranger, TOKEN, limits=SHORT) as two:
        assert "CERTIFICATE_VERIFY_FAILED" in refusal(members, credentials_of(folder, 0))
        assert two.receive(0.1) is None


def test_a_certificate_that_names_another_agent_is_not_let_in(folder):
    members = addresses(3)
    with meeting(members, folder=folder, who={1}) as (two,):
        assert "wrong sender" in refusal(members, credentials_of(folder, 2))
        assert two.refused == {("wrong sender", None): 1}


def test_nobody_talks_to_a_member_at_the_address_of_another(folder):
    """TLS itself refuses: the certificate names agent 2."""
    members = addresses(3)
    other = credentials_of(folder, 2)
    with Transport(1, members[1].address, members, other, TOKEN, limits=SHORT) as two:
        reason = refusal(members, credentials_of(folder, 0))
        assert "agent-1.comdml.internal" in reason or "Hostname" in reason
        assert two.receive(0.1) is None
        assert not two.refused, "not one byte of ours came to it"


def test_a_certificate_without_a_name_of_ours_is_not_let_in(folder):
    members = addresses(2)
    plain = reissued(folder, drop_names=True)
    with meeting(members, folder=folder, who={1}) as (two,):
        assert "wrong sender" in refusal(members, plain)
        assert by_reason(two) == {"wrong sender": 1}


def test_a_certificate_that_names_two_agents_is_neither(folder):
    members = addresses(2)
    double = reissued(folder, more_names=[x509.UniformResourceIdentifier("comdml://agent/3")])
    with meeting(members, folder=folder, who={1}) as (two,):
        assert "wrong sender" in refusal(members, double)
        assert by_reason(two) == {"wrong sender": 1}


def test_a_certificate_out_of_its_time_is_not_let_in(folder):
    members = addresses(2)
    with meeting(members, folder=folder, who={1}) as (two,):
        refusal(members, reissued(folder, expired=True))
        assert two.receive(0.1) is None


def test_who_has_no_certificate_is_not_let_in(folder):
    members = addresses(2)
    with meeting(members, folder=folder, who={1}) as (two,):
        refusal(members, None)
        host, port = members[1].address.split(":")
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        context.set_alpn_protocols(["h2"])
        stream = context.wrap_socket(
            socket.create_connection((host, int(port))), server_hostname="agent-1.comdml.internal"
        )
        assert is_hung_up_on(stream)
        assert two.receive(0.1) is None


def is_hung_up_on(stream):
    """Tell whether the other side ends a TLS stream; in TLS 1.3 it looks at our certificate after us."""
    stream.settimeout(5)
    try:
        while stream.recv(1000):
            pass
    except TimeoutError:
        return False
    except (ssl.SSLError, ConnectionError):
        return True
    return True


def test_a_revoked_member_is_refused_and_gets_nothing(folder):
    members = addresses(3)
    with meeting(members, folder=folder, who={1}, revoked={0}) as (two,):
        assert "revoked" in refusal(members, credentials_of(folder, 0))
        assert two.refused == {("revoked", 0): 1}
        two.send(mail(1, 2))
        with pytest.raises(PeerGoneError, match="membership is revoked"):
            two.send(mail(1, 0))


def test_revoking_a_member_ends_its_stream(folder):
    members = addresses(3)
    with meeting(members, folder=folder) as (one, two, three):
        one.send(mail(0, 1))
        received(two, 1)
        two.revoke(0)
        one.watch([1])
        one.send(mail(0, 1))
        with pytest.raises(PeerGoneError, match="revoked"):
            one.flush(10)
        three.send(mail(2, 1))
        assert received(two, 1)[0].sender == 2


@pytest.mark.parametrize("form", ["serial", "sha256"])
def test_a_revoked_certificate_is_refused_at_once_and_its_agent_s_next_one_is_not(form, folder, tmp_path):
    members = addresses(2)
    one = x509.load_pem_x509_certificate((folder / "agent-0" / "agent.crt").read_bytes())
    printed_by_openssl = {
        "serial": f"serial={one.serial_number:X}",
        "sha256": f"sha256 Fingerprint={one.fingerprint(SHA256()).hex(':').upper()}",
    }
    (tmp_path / "revoked").write_text(f"{printed_by_openssl[form]}  # lost\n")
    revoked = read_revoked(tmp_path / "revoked", "revoked")
    shutil.copytree(folder, tmp_path / "again", ignore=shutil.ignore_patterns("agent-0"))
    make_certificates(tmp_path / "again", [0], {}, days=1)
    with meeting(members, folder=folder) as (one, two):
        one.send(mail(0, 1))
        received(two, 1)
        two.refuse(revoked.covers)
        one.watch([1])
        one.send(mail(0, 1))
        with pytest.raises(PeerGoneError, match="revoked: agent 0's certificate"):
            one.flush(10)
        assert two.refused == {("revoked", None): 1}
    with meeting(members, folder=tmp_path / "again") as (one, two):
        two.refuse(revoked.covers)
        one.send(mail(0, 1))
        received(two, 1)


def test_a_member_cannot_write_in_the_name_of_another(folder):
    """The stream is its own and the envelope says somebody else."""
    from comdml_flwr.carriers.transport.frames import cut
    from comdml_flwr.core.wire import envelope_parts

    members = addresses(3)
    with meeting(members, folder=folder, who={1}) as (two,):
        channel = new_channel(Member(1, members[1].address), credentials_of(folder, 0), Limits())
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")
        frames = cut(envelope_parts(mail(2, 1)), 1, 4096)
        answers = call(frames, metadata=((RUN, TOKEN), (SENDER, "0"), (RECEIVER, "1")), timeout=10)
        with pytest.raises(Exception, match="wrong sender: 2; the stream is 0's"):
            list(answers)
        channel.close()
        assert two.refused == {("wrong sender", 0): 1}
        assert two.receive(0.1) is None


def reissued(folder, *, drop_names=False, more_names=(), expired=False):
    """Return agent 0's credentials with another certificate that the same authority signed."""
    old = x509.load_pem_x509_certificate((folder / "agent-0" / "agent.crt").read_bytes())
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(authority.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * day)
        .not_valid_after(now - day if expired else now + day)
    )
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if not drop_names:
        builder = builder.add_extension(x509.SubjectAlternativeName([*names, *more_names]), critical=False)
    certificate = builder.sign(key, certificates.hashes.SHA256())
    return credentials_of(folder, 0, certificate_pem=certificate.public_bytes(Encoding.PEM))


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda own: (own / "agent.key").unlink(), r"agent.key.* cannot be read"),
        (lambda own: (own / "agent.crt").write_text("x"), "must hold PEM files"),
        (lambda own: (own / "agent.key").write_text("x"), "must hold PEM files"),
        (
            lambda own: shutil.copy(own.parent / "agent-1" / "agent.key", own / "agent.key"),
            "must be the key of agent.crt",
        ),
        (
            lambda own: [shutil.copy(own.parent / "agent-1" / f, own) for f in ("agent.crt", "agent.key")],
            "must name comdml://agent/0; it names comdml://agent/1",
        ),
    ],
    ids=["missing", "no certificate", "no key", "another key", "another agent"],
)
def test_credentials_that_cannot_work_are_one_line(folder, tmp_path, spoil, line):
    copy = tmp_path / "federation"
    shutil.copytree(folder, copy)
    load_credentials(copy / "agent-0", 0)
    spoil(copy / "agent-0")
    with pytest.raises(InputError, match=line):
        load_credentials(copy / "agent-0", 0)


def test_an_expired_certificate_is_one_line(folder, tmp_path):
    copy = tmp_path / "federation"
    shutil.copytree(folder, copy)
    (copy / "agent-0" / "agent.crt").write_bytes(reissued(folder, expired=True).certificate_pem)
    with pytest.raises(InputError, match=r"agent.crt = .*: must be valid; it was until 20"):
        load_credentials(copy / "agent-0", 0)
