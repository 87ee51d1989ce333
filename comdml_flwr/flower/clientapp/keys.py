"""A node's key for a run: made at the introduction, used once in each exchange, gone with the run's folder.

In deployment each message is a new process, so the private key lies in the run's folder (in the node's own,
where it does not see the shared one), readable by its user only. The file's name is the number of the last
exchange for which it was used: to use it is to rename it, and of two who try it for the same exchange, or an
earlier one, at most one succeeds. So nobody can make this node pack two envelopes with one nonce.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from flwr.app import Context

from comdml_flwr.carriers.sealed.key_cards import (
    Trusted,
    load_signing_key,
    load_trusted_keys,
    new_card,
    table_of_keys,
)
from comdml_flwr.carriers.sealed.sealing import Sealer, new_private_key, public_key_of
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.files import PRIVATE_FILE, PRIVATE_FOLDER, make_folder, write_file
from comdml_flwr.planning.types import SERVER

NEVER = 0  # exchanges are counted from 1
SIGNING_KEY, TRUSTED_KEYS = "signing-key", "trusted-keys"
UNSIGNED = (
    "mail is sealed, but the keys are not signed: whoever runs the ServerApp could replace them and read "
    "all mail; to prevent it, give every SuperNode a signing-key and trusted-keys"
)


def introduce(folder: Path, agent: int, token: str, context: Context) -> bytes:
    """Make this node's key for a run, and return its card.

    Parameters
    ----------
    folder : Path
        Where this node keeps what it needs of the run.
    agent : int
        Who it is.
    token : str
        The run's.
    context : Context
        Holds the node's configuration.

    Raises
    ------
    InputError
        The node's signing key or trusted keys are not there or no such keys.
    """
    path, trusted = _path(context, SIGNING_KEY), trusted_keys(context)
    if (path is None) != (trusted is None):
        raise InputError(f"--node-config {SIGNING_KEY}", str(path), f"goes together with {TRUSTED_KEYS}")
    private_key = new_private_key()
    _write_key(_keys(folder, agent), private_key)
    signing_key = load_signing_key(path) if path else None
    return new_card(_run(token, context), agent, public_key_of(private_key), signing_key).pack()


def has_key(folder: Path, agent: int) -> bool:
    """Tell whether an agent has introduced itself in a run's folder already."""
    return _keys(folder, agent).exists()


def sealer_of(
    folder: Path,
    agent: int,
    exchange: int,
    token: str,
    cards: Sequence[bytes],
    context: Context,
    *,
    has_server: bool,
) -> Sealer:
    """Return what seals and opens this node's mail in an exchange; a second time there is none.

    The first time, it warns of keys that are not signed.

    Parameters
    ----------
    folder, agent, token, context
        As in `introduce`.
    exchange : int
        Number of the exchange.
    cards : Sequence[bytes]
        Everybody's.
    has_server : bool
        Whether the ServerApp plays a server, whose key is not signed.

    Raises
    ------
    RunError
        The node has no key, took part in this exchange already, or a card is not to be trusted.
    """
    trusted, unsigned = trusted_keys(context), (SERVER,) if has_server else ()
    public_keys = table_of_keys(cards, _run(token, context), trusted, unsigned=unsigned)
    private_key, since = _use_key(_keys(folder, agent), agent, exchange)
    if trusted is None and since == NEVER:
        logging.getLogger(__name__).warning(UNSIGNED)
    return Sealer(
        run=token,
        agent=agent,
        private_key=private_key,
        public_keys=public_keys,
        exchange=exchange,
        since=since,
    )


def trusted_keys(context: Context) -> Trusted | None:
    """Return the keys that the node's configuration trusts; None where it names none."""
    path = _path(context, TRUSTED_KEYS)
    return load_trusted_keys(path) if path else None


def _run(token: str, context: Context) -> str:
    return f"{context.run_id}/{token}"


def _path(context: Context, key: str) -> Path | None:
    value = context.node_config.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise InputError(f"--node-config {key}", value, "must be a path")
    return Path(value).expanduser()


def _keys(folder: Path, agent: int) -> Path:
    return folder / "keys" / str(agent)


def _write_key(keys: Path, private_key: bytes) -> None:
    shutil.rmtree(keys, ignore_errors=True)
    make_folder(keys.parent)
    keys.mkdir(PRIVATE_FOLDER)
    write_file(keys / str(NEVER), private_key, mode=PRIVATE_FILE)


def _use_key(keys: Path, agent: int, exchange: int) -> tuple[bytes, int]:
    """Return the private key, and the exchange in which it was last used."""
    try:
        since = max(int(path.name) for path in keys.iterdir())
    except (OSError, ValueError):
        raise RunError(
            f"agent {agent} has lost its key for this run: there is none in {keys}; start the run again"
        ) from None
    if since >= exchange:
        raise RunError(
            f"agent {agent} took part in exchange {since} and seals no mail of exchange {exchange}"
        )
    try:
        path = (keys / str(since)).rename(keys / str(exchange))
        return path.read_bytes(), since
    except OSError:
        raise RunError(f"agent {agent} is asked twice to pack mail of exchange {exchange}") from None
