"""What a member puts in the place of packed mail on the grid, and what becomes of it; the rest: lies.py."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from comdml_flwr.carriers.sealed.sealing import Sealer, new_private_key, public_key_of
from comdml_flwr.flower.clientapp import peer_client_app, session
from tests.carriers.lies import FROM_ROUND, LIAR, NUM_AGENTS
from tests.flower.loop_grid import grid_config, run_on_grid
from tests.small import fleet_text, small_config

NUM_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class PackedLie:
    """One row: from a packed envelope, its receiver and all that is packed, to what is sent in its place."""

    what: str
    tell: Callable[[bytes, int, dict[int, bytes]], bytes]
    is_sealed: bool = True


def with_another_key(packed, receiver, sent):
    """Seal the same with a key that is not in the run's table."""
    keys = {agent: new_private_key() for agent in (LIAR, receiver)}
    table = {agent: public_key_of(key) for agent, key in keys.items()}
    exchange = int.from_bytes(packed[17:25], "big")
    sealer = Sealer(
        run="", agent=LIAR, private_key=keys[LIAR], public_keys=table, exchange=exchange, since=exchange - 1
    )
    return sealer.seal(receiver, bytes(len(packed) - 45))


PACKED_LIES = (
    PackedLie(what="noise", tell=lambda packed, receiver, sent: bytes(len(packed))),
    PackedLie(what="cut short", tell=lambda packed, receiver, sent: packed[: len(packed) // 2]),
    PackedLie(what="nothing", tell=lambda packed, receiver, sent: b""),
    PackedLie(what="sealed with another key", tell=with_another_key),
    PackedLie(what="in the open", tell=lambda packed, receiver, sent: b"=" + packed[1:]),
    PackedLie(what="sealed for another one", tell=lambda packed, receiver, sent: sent[max(sent)]),
    PackedLie(
        what="in another's name",
        tell=lambda packed, receiver, sent: packed[:1] + int(receiver == 0).to_bytes(8, "big") + packed[9:],
    ),
    PackedLie(
        what="not sealed, noise", is_sealed=False, tell=lambda packed, receiver, sent: b"=" + packed[9:]
    ),
    PackedLie(
        what="not sealed, a file that is not there",
        is_sealed=False,
        tell=lambda packed, receiver, sent: b"@mail/0/none",
    ),
)


@contextmanager
def telling(lie):
    """Let the liar's node tell a lie in all mail to others, from a round on."""
    real_pack, real_run, told = peer_client_app.pack, peer_client_app.run_steps, {}

    def run_steps(agent, *which):
        done = real_run(agent, *which)
        told["is_told"] = agent.id == LIAR and agent.round >= FROM_ROUND
        return done

    def pack(outbox, *where, exchange):
        packed = real_pack(outbox, *where, exchange=exchange)
        if not told["is_told"]:
            return packed
        receivers = [envelope.receiver for envelope in outbox]
        sent = dict(zip(receivers, packed, strict=True))
        return [
            blob if receiver == LIAR else lie.tell(blob, receiver, sent)
            for blob, receiver in zip(packed, receivers, strict=True)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peer_client_app, "run_steps", run_steps)
        patch.setattr(peer_client_app, "pack", pack)
        if lie.is_sealed:
            patch.setattr(session, "is_shared", lambda folder, token: False)
        yield


def rounds_with(lie, method, folder: Path):
    """Run on the grid with a member that lies; return what the run's record says of each round."""
    config = small_config(method=method, num_rounds=NUM_ROUNDS, batch_size=16)
    with telling(lie):
        run_on_grid(grid_config(config, folder), fleet_text(NUM_AGENTS), NUM_AGENTS)
    (run,) = folder.iterdir()
    return [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
