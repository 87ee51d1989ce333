"""One suite for all carriers: same seed, same weights, same virtual time, whoever moves the mail."""

import json
from dataclasses import dataclass
from functools import cache

import pytest

from comdml_flwr.core.errors import RunError
from comdml_flwr.flower import mail
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from tests.carriers.direct_runs import run_direct
from tests.carriers.simulation import run_simulated
from tests.flower.loop_grid import grid_config, run_on_grid
from tests.small import fleet_text, run_local, small_config, small_fleet

NUM_AGENTS = 5


@dataclass(frozen=True)
class Outcome:
    """What must not depend on the carrier."""

    weights_sha256: str
    virtual_time_s: list[float]
    accuracy: list[float]
    bytes_sent: list[int]


@cache
def local_outcome(config):
    """Return what all carriers are held against; computed once for each configuration."""
    return local(config, None, None)


def local(config, tmp_path, monkeypatch, **keys):
    record, _ = run_local(config, small_fleet(NUM_AGENTS), **keys)
    return Outcome(
        record.weights_sha256,
        [r.virtual_time_s for r in record.rounds],
        [r.score for r in record.rounds],
        [r.bytes_sent for r in record.rounds],
    )


def grid(config, tmp_path, monkeypatch, **keys):
    run_on_grid(grid_config(config, tmp_path), fleet_text(NUM_AGENTS), NUM_AGENTS, **keys)
    (folder,) = tmp_path.iterdir()
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    return Outcome(
        json.loads((folder / "summary.json").read_text())["weights_sha256"],
        [r["virtual_time_s"] for r in rounds],
        [r["accuracy"] for r in rounds],
        [r["bytes_sent"] for r in rounds],
    )


def direct(config, tmp_path, monkeypatch, **keys):
    """Peer to peer over sockets; all rounds in one message."""
    records, digest, _ = run_direct(config, small_fleet(NUM_AGENTS), **keys)
    return outcome_of(records, digest)


def simulated(config, tmp_path, monkeypatch, **keys):
    """Peer to peer over a simulated network; all rounds in one message."""
    return outcome_of(*run_simulated(config, small_fleet(NUM_AGENTS), **keys))


def outcome_of(records, digest):
    return Outcome(
        digest,
        [r.virtual_time_s for r in records],
        [r.score for r in records],
        [r.bytes_sent for r in records],
    )


def simulated_in_messages_of_one_round(config, tmp_path, monkeypatch):
    return simulated(config, tmp_path, monkeypatch, rounds_per_message=1)


def direct_in_messages_of_one_round(config, tmp_path, monkeypatch):
    return direct(config, tmp_path, monkeypatch, rounds_per_message=1)


def local_side_by_side(config, tmp_path, monkeypatch):
    return local(config, tmp_path, monkeypatch, num_workers=3)


def local_reversed(config, tmp_path, monkeypatch):
    return local(config, tmp_path, monkeypatch, reverse_replies=True)


def grid_reversed(config, tmp_path, monkeypatch):
    return grid(config, tmp_path, monkeypatch, reverse_replies=True)


def grid_with_files(config, tmp_path, monkeypatch):
    monkeypatch.setattr(mail, "FILE_FROM_BYTES", 0)
    return grid(config, tmp_path, monkeypatch)


def grid_without_shared_folder(config, tmp_path, monkeypatch):
    monkeypatch.setattr("comdml_flwr.flower.clientapp.session.is_shared", lambda folder, token: False)
    return grid(config, tmp_path, monkeypatch)


RUNS = {
    "one chunk": {},
    "three chunks": {"num_chunks": 3, "local_epochs": 2},
    "two chunks of a resnet": {"model": "resnet-20", "num_chunks": 2, "num_rounds": 1, "batch_size": 20},
    "half take part": {"participation": 0.5, "num_rounds": 4},
    "allreduce": {"method": "allreduce", "participation": 0.5, "num_rounds": 4},
    "mixing": {"averaging": "mixing", "topology": "ring", "num_chunks": 2},
    "gossip": {"method": "gossip"},
    "braintorrent": {"method": "braintorrent", "participation": 0.6},
    "dpsgd": {"method": "dpsgd", "topology": "ring", "participation": 0.6},
    "dropout, a last batch of one": {"model": "drawing", "batch_size": 13, "num_chunks": 2},
    "a model that is cut by its graph": {"model": "encoder"},
    "a schedule, clipped gradients, adamw": {
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "decay_norms": False,
        "clip_norm": 0.5,
        "schedule": "cosine",
        "warmup_rounds": 1,
        "num_rounds": 3,
    },
    "a rate that follows the metric": {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": "plateau",
        "schedule_patience": 1,
        "participation": 0.6,
        "num_rounds": 5,
    },
}
CARRIERS = [grid, direct, simulated]
SOME = ("three chunks", "half take part", "gossip")  # they have each kind of mail and of absence
VARIANTS = {
    local_side_by_side: SOME,  # all methods: test_one_seed_has_one_outcome_however_it_is_run
    local_reversed: SOME,
    grid_reversed: SOME,
    grid_with_files: SOME,
    grid_without_shared_folder: SOME,
    simulated_in_messages_of_one_round: (*SOME, "a schedule, clipped gradients, adamw"),
    direct_in_messages_of_one_round: (),
}
"""Carriers of which every day sees some runs, and `pytest -m slow` the others."""


def cases():
    """Return every carrier with every run."""
    for carrier in (*CARRIERS, *VARIANTS):
        for name, keys in RUNS.items():
            is_everyday = name in VARIANTS.get(carrier, RUNS)
            marks = () if is_everyday else pytest.mark.slow
            yield pytest.param(carrier, keys, id=f"{name}-{carrier.__name__}", marks=marks)


@pytest.mark.parametrize(("carrier", "keys"), [*cases()])
def test_every_carrier_gives_the_same_outcome(carrier, keys, tmp_path, monkeypatch):
    config = small_config(**keys)
    assert carrier(config, tmp_path, monkeypatch) == local_outcome(config)


@pytest.mark.parametrize("carrier", [local, grid], ids=lambda carrier: carrier.__name__)
def test_an_agent_that_fails_ends_the_run_in_one_line(carrier, tmp_path, monkeypatch):
    """Every carrier names the agent, the round, the phase, the place in the user's code and the reason."""

    def digest(agent):
        if agent.round == 2:
            raise ValueError("disk\nfull")
        return "5a" * 32  # the same

    monkeypatch.setattr("comdml_flwr.agents.agent.Agent.weights_sha256", digest)
    phase = "adopt and evaluate"
    where = rf"{phase}: tests/carriers/test_conformance.py, line \d+, in digest"
    with pytest.raises(RunError, match=f"^agent 0 failed in round 2, {where}: ValueError: disk full$"):
        carrier(small_config(), tmp_path, monkeypatch)


DYNAMIC = """
[scenario]
share = 0.6
every = 1
speed_noise = 0.1
[[availability]]
round = 2
agent = 4
present = false
[[availability]]
round = 3
agent = 4
present = true
"""


def test_a_changing_fleet_gives_the_same_outcome_on_the_grid(tmp_path, monkeypatch):
    """Agents that are rebuilt for each message know the devices, who is there, and the last pairing."""
    config, text = small_config(num_rounds=4, hysteresis=0.3), fleet_text(NUM_AGENTS) + DYNAMIC
    record, _ = run_local(config, parse_fleet(text, "fleet"))
    run_on_grid(grid_config(config, tmp_path), text, NUM_AGENTS)
    (folder,) = tmp_path.iterdir()
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [r["num_agents"] for r in rounds] == [5, 4, 5, 5]
    assert [r["plan"] for r in rounds] == [r.plan for r in record.rounds]
    assert [r["virtual_time_s"] for r in rounds] == [r.virtual_time_s for r in record.rounds]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["weights_sha256"] == record.weights_sha256
