"""Packed envelopes: mail as the ServerApp sees them, and the folder where big ones lie.

In simulation all nodes see one folder, so an envelope of more than `FILE_FROM_BYTES` travels as a file there,
and the packed envelope holds its name only. Where the folder is not shared (SuperNodes on several machines)
the packed envelope holds the envelope itself, sealed so that only the receiver can read it (sealing.py).
Agents' states lie in the same folder, or in a folder of the node's own.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from comdml_flwr.carriers.sealed.sealing import Sealer
from comdml_flwr.core.errors import PeerFaultError, RunError
from comdml_flwr.core.files import PRIVATE_FOLDER, read_file, write_file
from comdml_flwr.core.messages import Envelope, Inbox, Outbox
from comdml_flwr.core.temporary import temporary_folder
from comdml_flwr.core.units import human_bytes
from comdml_flwr.core.wire import decode_envelope, encode_envelope

FILE_FROM_BYTES = 16_384  # below, a file costs more than the bytes
MESSAGE_BYTES = (1 << 31) - (1 << 24)
"""How much mail goes with a message: Flower sends it as one protobuf body, of less than 2 GiB."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
TOKEN = "run-token"
FLEET, CONFIG = "fleet.toml", "run-config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedEnvelope:
    """Mail whose content its carrier does not read.

    Parameters
    ----------
    sender, receiver : int
        Agent ids.
    payload : bytes
        The envelope, or the name of the file that holds it; for the receiver's eyes only.
    """

    sender: int
    receiver: int
    payload: bytes


@contextmanager
def shared_folder(token: str, fleet_text: str, config_text: str = "") -> Iterator[tuple[Path, list[str]]]:
    """Make a run's folder, with a token by which a node knows it; remove it at the end.

    Yields
    ------
    tuple[Path, list[str]]
        The folder, and the tokens of runs whose ServerApps were killed on this machine.
    """
    with temporary_folder("comdml-flwr-", note=token) as (folder, tokens_of_dead):
        _write_about(folder, token, fleet_text, config_text)
        yield folder, tokens_of_dead


def is_shared(folder: Path, token: str) -> bool:
    """Tell whether this machine sees the run's folder.

    A message names it, and mail and states lie in it as they are: so it must be this user's own, where nobody
    else can have put anything.
    """
    try:
        found = folder.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        return is_own and not found.st_mode & _OTHERS_WRITE and (folder / TOKEN).read_text() == token
    except (OSError, ValueError):
        return False


def own_folder(run_id: int, node_id: int) -> Path:
    """Return the folder of a run on a node that does not see the shared one; a machine may have several."""
    return _node_place() / f"{run_id}-{node_id}"


def _node_place() -> Path:
    return Path(tempfile.gettempdir()) / f"comdml-flwr-{os.getuid()}-node"


def lasting_place() -> Path:
    """Return where a node keeps what is to outlive a run: a folder of ours in Flower's own.

    No other user looks in, so what is written below it is private, too.
    """
    place = Path(os.environ.get("FLWR_HOME") or "~/.flwr").expanduser() / "comdml-flwr"
    place.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    place.chmod(PRIVATE_FOLDER)
    return place


def node_place() -> Path:
    """Return where the nodes of this machine and user keep what is theirs; no other user looks in.

    Raises
    ------
    RunError
        It is taken by another user.
    """
    place = _node_place()
    place.mkdir(PRIVATE_FOLDER, exist_ok=True)
    found = place.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise RunError(f"{place} belongs to another user: remove it, or set TMPDIR to a folder of your own")
    place.chmod(PRIVATE_FOLDER)
    return place


def make_own_folder(folder: Path, token: str, fleet_text: str, config_text: str = "") -> None:
    """Make a node's own folder where no other user looks in.

    Raises
    ------
    RunError
        Its place is taken by another user; or it is there, as the node is in the middle of this run.
    """
    node_place()
    if (folder / TOKEN).exists():
        raise RunError(f"this node is in the middle of this run, and is not greeted twice: {folder} stays")
    shutil.rmtree(folder, ignore_errors=True)
    _write_about(folder, token, fleet_text, config_text)


def _write_about(folder: Path, token: str, fleet_text: str, config_text: str) -> None:
    """Write what nodes must know of the run; no configuration: Flower's holds."""
    write_file(folder / TOKEN, token.encode())
    write_file(folder / FLEET, fleet_text.encode())
    if config_text:
        write_file(folder / CONFIG, config_text.encode())


def pack(outbox: Outbox, folder: Path, sealer: Sealer | None, *, exchange: int) -> list[bytes]:
    """Pack envelopes, in order; without a sealer all see the folder."""
    if sealer:
        check_message("the mail that one agent sends", sum(envelope.num_bytes for envelope in outbox))
        return [sealer.seal(envelope.receiver, encode_envelope(envelope)) for envelope in outbox]
    return [_write_large(envelope, folder, f"{exchange}-{place}") for place, envelope in enumerate(outbox)]


def check_message(what: str, num_bytes: int) -> None:
    """Refuse what no message of Flower's holds. Raises RunError."""
    if num_bytes > MESSAGE_BYTES:
        bound = f"more than the {human_bytes(MESSAGE_BYTES)} that a message of Flower's holds"
        hint = "a larger num-chunks parts activations, and carrier = direct has no such bound"
        raise RunError(f"{what} takes {human_bytes(num_bytes)}, {bound}: {hint}")


def _write_large(envelope: Envelope, folder: Path, name: str) -> bytes:
    blob = encode_envelope(envelope)
    if len(blob) < FILE_FROM_BYTES:
        return b"=" + blob
    path = folder / "mail" / str(envelope.receiver) / f"{envelope.sender}-{name}.safetensors"
    write_file(path, blob)
    return b"@" + str(path.relative_to(folder)).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What came out of packed mail.

    Parameters
    ----------
    mail : tuple[Envelope | None, ...]
        In the order of what was packed; None in the place of what is left out.
    faults : tuple[PeerFaultError, ...]
        Why, each of the one that sent it.
    """

    mail: tuple[Envelope | None, ...]
    faults: tuple[PeerFaultError, ...]

    def those(self, first: int, end: int | None = None) -> Inbox:
        """Return the envelopes in some places, without those that are left out."""
        return tuple(envelope for envelope in self.mail[first:end] if envelope is not None)


def unpack(
    packed: Sequence[bytes], senders: Sequence[int], receiver: int, folder: Path, sealer: Sealer | None
) -> Unpacked:
    """Unpack envelopes; a file is gone once it is read. With a sealer, all must be sealed.

    What cannot be opened, or is no envelope of its sender's, is as if it had not been sent. Who is to blame?
    What opens was sealed by the one whose key it opens with, so what is in it is proven to be its sender's.
    What does not open may have been spoilt by its sender, on its way, or for want of the right key here. The
    ServerApp says which node it came from, having it from Flower. That one is blamed, unless the same goes
    for most of several senders, or for the receiver's own mail: then the fault is here or on the way, and
    this node takes no part.

    Parameters
    ----------
    packed : Sequence[bytes]
        Of `pack`.
    senders : Sequence[int]
        Which agent's node sent each of them.
    receiver : int
        Who unpacks.
    folder : Path
        Where files lie.
    sealer : Sealer, optional
        The receiver's.

    Raises
    ------
    RunError
        Mail does not open of more than half of the others, and more than one, or of the receiver itself.
    """
    if len(packed) != len(senders):
        raise RunError(f"{len(packed)} envelopes came with {len(senders)} names of senders")
    mail: list[Envelope | None] = []
    faults: list[PeerFaultError] = []
    unproven: dict[int, RunError] = {}
    for blob, sender in zip(packed, senders, strict=True):
        mail.append(None)
        try:
            content = _opened(blob, sender, sealer) if sealer else _content(blob, folder)
        except RunError as error:
            faults.append(PeerFaultError(sender, f"mail from agent {sender}: {error}"))
            unproven[sender] = error
            continue
        try:
            mail[-1] = _envelope(content, sender, receiver)
        except RunError as error:
            faults.append(PeerFaultError(sender, f"mail from agent {sender}: {error}"))
    spoilt, others = len(unproven), len({*senders} - {receiver})
    if receiver in unproven or (spoilt > 1 and 2 * spoilt > others):
        raise unproven[min(unproven)]
    return Unpacked(mail=tuple(mail), faults=tuple(faults))


def _opened(packed: bytes, sender: int, sealer: Sealer) -> bytearray:
    """Return what is sealed. Raises RunError where it does not open, or another one has sealed it."""
    sealed_by, content = sealer.unseal(packed)
    if sealed_by != sender:
        raise RunError(f"agent {sealed_by} has sealed it")
    return content


def _envelope(content: bytearray, sender: int, receiver: int) -> Envelope:
    envelope = decode_envelope(content)
    if (envelope.sender, envelope.receiver) != (sender, receiver):
        raise RunError(f"it says it is from agent {envelope.sender} to agent {envelope.receiver}")
    return envelope


def _content(packed: bytes, folder: Path) -> bytearray:
    mark, content = packed[:1], memoryview(packed)[1:]
    if mark == b"=":
        return bytearray(content)
    path = (folder / bytes(content).decode(errors="replace")).resolve()
    if mark != b"@" or not path.is_relative_to(folder.resolve() / "mail"):
        raise RunError(f"a packed envelope begins with {mark!r}, or names a file outside the run's folder")
    try:
        blob = read_file(path)
    except OSError:
        raise RunError(
            f"{path}: the envelope's file is not there; is the folder shared by all nodes?"
        ) from None
    path.unlink(missing_ok=True)
    return blob
