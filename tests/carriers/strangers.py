"""Somebody who sends a member of a running run what does not belong there."""

import socket
from contextlib import closing
from dataclasses import replace

import grpc

from comdml_flwr.carriers.transport.channels import new_channel
from comdml_flwr.carriers.transport.credentials import AUTHORITY_FILE, load_credentials
from comdml_flwr.carriers.transport.incoming import METHOD, RECEIVER, RUN, SENDER, SERVICE
from comdml_flwr.carriers.transport.members import Limits, Member
from comdml_flwr.core.wire import encode_envelope
from tests.carriers.transport.fuzz import HEAD, frames_of
from tests.carriers.transport.meetings import mail

LATER_ROUND = 99


class Stranger:
    """Dials one agent of a run; it has certificates of the federation, and one of another.

    Parameters
    ----------
    member : int
        Its own agent id: a member of the run that takes no part in it. The next id is no member's.
    victim : int
        Whom it dials.
    address : str
        Where that agent listens.
    token : str
        Of the run.
    folder, foreign : Path
        Certificates of the federation, and of another one.
    """

    def __init__(self, member, victim, address, token, folder, foreign):
        self._member, self._victim, self._address, self._token = member, victim, address, token
        self._folder, self._foreign = folder, foreign

    def send_everything(self):
        """Send all that is to be refused; return the refusals, by reason and peer, that are to be counted."""
        other_round = frames_of(encode_envelope(mail(self._member, self._victim, round_=LATER_ROUND)))
        assert self._speak(other_round) is None, "it is taken off the wire, and counted"
        told = [
            ("replayed", self._member, self._speak(other_round)),
            ("oversized", self._member, self._speak([HEAD.pack(b"CmF1", 2, 1 << 40)])),
            ("corrupt", self._member, self._speak([bytes(100)])),
            ("truncated", self._member, self._speak([b"CmF1"])),
            ("another run", None, self._speak(other_round, token="run-2")),
            ("not a member", None, self._speak(other_round, sender=self._member + 1)),
            ("wrong sender", None, self._speak(other_round, says=0 if self._victim else 1)),
        ]
        assert all(reply.startswith(reason) for reason, _, reply in told), told
        self._shake_hands_as_a_foreigner(other_round)
        self._say_what_is_no_tls()
        return {("wrong round", self._member): 1} | {(reason, peer): 1 for reason, peer, _ in told}

    def _speak(self, frames, *, token=None, sender=None, says=None, credentials=None):
        """Send frames on a stream of their own; return why it was refused, or None."""
        sender = self._member if sender is None else sender
        credentials = credentials or load_credentials(self._folder / f"agent-{sender}", sender)
        said = (
            (RUN, token or self._token),
            (SENDER, str(sender if says is None else says)),
            (RECEIVER, str(self._victim)),
        )
        with closing(new_channel(Member(self._victim, self._address), credentials, Limits())) as channel:
            call = channel.stream_stream(f"/{SERVICE}/{METHOD}")
            try:
                list(call(iter(frames), metadata=said, timeout=20))
            except grpc.RpcError as error:
                return error.details()
        return None

    def _shake_hands_as_a_foreigner(self, frames):
        own = load_credentials(self._foreign / f"agent-{self._member}", self._member)
        authority = (self._folder / AUTHORITY_FILE).read_bytes()
        assert self._speak(frames, credentials=replace(own, authority_pem=authority)) is not None

    def _say_what_is_no_tls(self):
        host, port = self._address.split(":")
        with socket.create_connection((host, int(port))) as stream:
            stream.sendall(bytes(range(256)))
