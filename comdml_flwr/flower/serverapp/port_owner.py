"""Which run has the address that a node listens on for its peers.

A SuperNode works for one message at a time. Two runs whose mail goes from peer to peer, on the same nodes,
would each find a part of them busy with the other one: they would refuse each other's mail, and lose agents.
So the first run that greets a node has its address until it says goodbye, and another one is refused. A run
that ended without a goodbye has it until nothing was done for it in `LEASE_S`.
"""

import re
import time
from pathlib import Path

from flwr.app import Context

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.files import write_file
from comdml_flwr.flower.mail import node_place

LEASE_S = 300.0
"""Longer than a run leaves a node without a message: the others may have to miss one that is dead."""


def claim_address(context: Context, *, is_resumed: bool = False) -> None:
    """Take the node's address for this run, or keep it.

    A run that goes on from a checkpoint takes it in any case: it is most likely its own, killed a moment ago.

    Raises
    ------
    RunError
        Another run has it; the line says which, and what to do.
    """
    path = _path(context)
    try:
        owner, age_s = path.read_text(), time.time() - path.stat().st_mtime
    except FileNotFoundError:
        owner, age_s = "", 0.0
    if owner not in ("", str(context.run_id)) and age_s < LEASE_S and not is_resumed:
        hint = f"wait for its end, or, if it was killed, for {LEASE_S - age_s:.0f} s"
        raise RunError(f"{_listen(context)} is in use by run {owner} (seen {age_s:.0f} s ago): {hint}")
    write_file(path, str(context.run_id).encode())


def release_address(context: Context) -> None:
    """Give the node's address back, if it has one and this run has it."""
    if not _listen(context):
        return
    path = _path(context)
    try:
        if path.read_text() == str(context.run_id):
            path.unlink()
    except FileNotFoundError:
        return


def _listen(context: Context) -> str:
    return str(context.node_config.get("p2p-listen", context.node_config.get("p2p-address", "")))


def _path(context: Context) -> Path:
    return node_place() / "addresses" / re.sub(r"[^\w.-]", "-", _listen(context))
