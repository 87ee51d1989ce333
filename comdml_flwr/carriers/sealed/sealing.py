"""Sealing: mail that goes through strangers' hands, and only the receiver can read.

Theory of operation
-------------------
Mail between nodes on several machines passes through the SuperLink and the ServerApp. They must know who
sends to whom and how much; they need not know what. So each envelope is sealed at the sender and opened at
the receiver:

* every node makes an X25519 key pair for each run; the public half goes into the run's table of keys
  (key_cards.py), the private half stays at the node;
* sender and receiver find the same secret by Diffie-Hellman, and from it, by HKDF-SHA256, one key for each
  direction: the context is the run's token, both ids and both public keys;
* ChaCha20-Poly1305 (RFC 8439) seals the envelope. The nonce is (exchange, place in the outbox). A `Sealer`
  serves one exchange and counts places up; a node takes part in an exchange once (flower/clientapp/keys.py),
  so no nonce is ever used twice under a key, even if the ServerApp asks for the same exchange again;
* the associated data are the run's token and the envelope's header: sender, receiver, exchange, place. An
  envelope that was readdressed, or is of another run, does not open;
* an envelope that waits was sealed no earlier than the receiver's exchange before and before the present one.
  Envelopes from outside that window, and an envelope that comes twice, are refused: nothing can be replayed.

What this protects against: who reads or changes mail on its way (the SuperLink, its database, the ServerApp,
their machines and their logs) learns who writes to whom, when, and how many bytes, and can hold mail back; a
envelope that was changed, moved or repeated ends the exchange in one line.

What it does not protect against:

* Who hands on the table of keys can put his own keys into it and read everything. That is the ServerApp. It
  is found out where the public keys are signed with keys that the members know of each other (key_cards.py).
* The app's code comes through the SuperLink, too: who does not trust it lets the SuperNodes check that
  (Flower's `--trusted-entities`).
* Reports are not sealed: accuracy, loss, times, the plan, numbers of bytes, digests of the weights.
* A receiver reads what it is sent. SplitFed's server sees activations and labels, as the method wants it, and
  Flower's FedAvg sends models to the ServerApp in the open.
* Private keys are good for one run. Who breaks into a node while the run lasts can open the run's mail.

An envelope of 100 MB is sealed in 0.11 s and opened in 0.11 s by one core of an AMD EPYC (910 and 930 MB/s,
copies included, median of 9; tests/benchmarks/sealing.py). It is 45 bytes longer than what is in it.
"""

import struct
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from comdml_flwr.core.errors import RunError

MARK = b"#"  # the first byte of a sealed envelope
MAX_BYTES = 2**31 - 2**10  # of a blob: what ChaCha20-Poly1305's library takes, and Flower's messages
_HEADER = struct.Struct(">cqqQI")  # mark, sender, receiver, exchange, place
_NONCE = struct.Struct(">QI")  # exchange, place: 96 bits
_TAG_BYTES = 16
_PURPOSE = b"comdml-flwr sealed envelope 1"


def new_private_key() -> bytes:
    """Return a new X25519 private key: 32 bytes."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key_of(private_key: bytes) -> bytes:
    """Return the public half of a private key: 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


class Sealer:
    """Seals what an agent sends in one exchange, and opens what it receives in it.

    There must not be two for the same agent, key and exchange: see the module docstring.

    Parameters
    ----------
    run : str
        The run's token.
    agent : int
        Whose envelopes these are.
    private_key : bytes
        The agent's, for this run.
    public_keys : Mapping[int, bytes]
        Those of all who take part, by agent id; the agent's own is among them.
    exchange : int
        Number of this exchange, from 1.
    since : int
        Number of the last exchange in which the agent took part; 0 if it never did.

    Raises
    ------
    RunError
        The table holds another key for the agent, or the exchange is over.

    Examples
    --------
    >>> keys = {agent: new_private_key() for agent in (0, 1)}
    >>> table = {agent: public_key_of(key) for agent, key in keys.items()}
    >>> sender = Sealer(run="r", agent=0, private_key=keys[0], public_keys=table, exchange=1, since=0)
    >>> receiver = Sealer(run="r", agent=1, private_key=keys[1], public_keys=table, exchange=2, since=1)
    >>> receiver.unseal(sender.seal(1, b"weights"))
    (0, bytearray(b'weights'))
    """

    def __init__(
        self,
        *,
        run: str,
        agent: int,
        private_key: bytes,
        public_keys: Mapping[int, bytes],
        exchange: int,
        since: int,
    ) -> None:
        if not since < exchange:
            raise RunError(
                f"agent {agent} has sealed its mail of exchange {since} and seals none of {exchange}"
            )
        if public_keys.get(agent) != public_key_of(private_key):
            raise RunError(f"the run's table of keys holds another key for agent {agent} than its own")
        self.agent, self._run, self._public_keys = agent, run.encode(), public_keys
        self._private_key = X25519PrivateKey.from_private_bytes(private_key)
        self._exchange, self._since = exchange, since
        self._num_sealed = 0
        self._opened: set[bytes] = set()
        self._ciphers: dict[tuple[int, int], ChaCha20Poly1305] = {}

    def seal(self, receiver: int, blob: bytes) -> bytes:
        """Return an envelope that only the receiver can open, `blob` in it."""
        if len(blob) > MAX_BYTES:
            raise RunError(f"an envelope of {len(blob)} bytes: must be at most {MAX_BYTES}; use more chunks")
        header = _HEADER.pack(MARK, self.agent, receiver, self._exchange, self._num_sealed)
        nonce = _NONCE.pack(self._exchange, self._num_sealed)
        self._num_sealed += 1
        cipher = self._cipher(self.agent, receiver)
        return header + cipher.encrypt(nonce, blob, self._associated(header))

    def unseal(self, envelope: bytes) -> tuple[int, bytearray]:
        """Return who sealed an envelope, and what is in it: in a writable buffer.

        Raises
        ------
        RunError
            It is no sealed envelope, is for another, was here before, or was changed; one line.
        """
        header, sealed = envelope[: _HEADER.size], memoryview(envelope)[_HEADER.size :]
        if len(sealed) < _TAG_BYTES or header[:1] != MARK:
            raise RunError(f"{len(envelope)} bytes that begin with {envelope[:1]!r} are no sealed envelope")
        _, sender, receiver, exchange, place = _HEADER.unpack(header)
        self._check(header, sender, receiver, exchange)
        cipher = self._cipher(sender, receiver)
        try:
            blob = cipher.decrypt(_NONCE.pack(exchange, place), sealed, self._associated(header))
        except InvalidTag:
            raise RunError(
                f"an envelope from agent {sender} does not open: it was changed, is of another run, or the "
                "run's table of keys is false"
            ) from None
        self._opened.add(header)
        return sender, bytearray(blob)

    def _check(self, header: bytes, sender: int, receiver: int, exchange: int) -> None:
        if receiver != self.agent:
            raise RunError(
                f"an envelope from agent {sender} to agent {receiver} arrived at agent {self.agent}"
            )
        if not self._since <= exchange < self._exchange:
            raise RunError(
                f"an envelope from agent {sender} is of exchange {exchange}: in exchange "
                f"{self._exchange} only those from {self._since} on are new"
            )
        if header in self._opened:
            raise RunError(f"an envelope from agent {sender} came twice")

    def _associated(self, header: bytes) -> bytes:
        return self._run + header  # unambiguous: a header is of fixed size

    def _cipher(self, sender: int, receiver: int) -> ChaCha20Poly1305:
        if (sender, receiver) not in self._ciphers:
            self._ciphers[sender, receiver] = ChaCha20Poly1305(self._derive(sender, receiver))
        return self._ciphers[sender, receiver]

    def _derive(self, sender: int, receiver: int) -> bytes:
        """Return the key of one direction between this agent and another."""
        peer = receiver if sender == self.agent else sender
        secret = self._secret(peer)
        ends = struct.pack(">qq", sender, receiver) + self._public_keys[sender] + self._public_keys[receiver]
        # Unambiguous: the purpose and the ends are of fixed size.
        return HKDF(SHA256(), 32, salt=None, info=_PURPOSE + ends + self._run).derive(secret)

    def _secret(self, peer: int) -> bytes:
        if peer not in self._public_keys:
            raise RunError(f"the run's table of keys has none for agent {peer}")
        try:
            return self._private_key.exchange(X25519PublicKey.from_public_bytes(self._public_keys[peer]))
        except ValueError:
            raise RunError(f"the key for agent {peer} in the run's table is no X25519 key") from None
