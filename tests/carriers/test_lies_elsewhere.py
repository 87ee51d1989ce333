"""Lies over real sockets and on the grid: what the simulation has of all lies holds there, too."""

import json

import pytest

from comdml_flwr.flower.clientapp import peer_client_app
from tests.carriers.direct_runs import run_direct
from tests.carriers.lies import LIAR, LIES, NUM_AGENTS
from tests.carriers.sealed_lies import PACKED_LIES, rounds_with
from tests.flower.loop_grid import grid_config, run_on_grid
from tests.small import fleet_text, small_config, small_fleet

NUM_ROUNDS = 3
OF_PHASES = (
    "profile: links NaN",
    "activations: labels 100",
    "contribution: weights NaN",
    "average: weights short",
)
OF_PEERS = ("average: weights others for each", "mark: digest false", "gone: all in the name of one")
EVERYDAY = ("activations: labels 100", "average: weights others for each", "average: weights short")


def lies(names):
    """Return lies by name; those that are not for every day are slow."""
    marks = {name: () if name in EVERYDAY else pytest.mark.slow for name in names}
    return [pytest.param(lie, id=lie.name, marks=marks[lie.name]) for lie in LIES if lie.name in names]


def config_of(lie):
    return small_config(method=lie.method, num_rounds=NUM_ROUNDS, batch_size=16)


@pytest.mark.parametrize("lie", lies(OF_PHASES + OF_PEERS))
def test_over_sockets_the_honest_end_all_rounds_with_one_model(lie):
    records, _, agents = run_direct(config_of(lie), small_fleet(NUM_AGENTS), lies={LIAR: lie.begin()})
    assert [record.num_agents for record in records] == [NUM_AGENTS - 1] * NUM_ROUNDS
    assert LIAR in records[1].distrusted
    assert records[1].not_committed == []
    assert len({agent.weights_sha256() for agent in agents if agent.id != LIAR}) == 1


@pytest.mark.parametrize("lie", lies(OF_PHASES))
def test_on_the_grid_the_honest_end_all_rounds_with_one_model(lie, tmp_path, monkeypatch):
    real, tell = peer_client_app.run_steps, lie.begin()

    def run_steps(agent, *which):
        outbox, report = real(agent, *which)
        if agent.id == LIAR:
            outbox = tuple(
                one for mail in outbox for one in ((mail,) if mail.receiver == LIAR else tell(mail))
            )
        return outbox, report

    monkeypatch.setattr(peer_client_app, "run_steps", run_steps)
    run_on_grid(grid_config(config_of(lie), tmp_path), fleet_text(NUM_AGENTS), NUM_AGENTS)
    (folder,) = tmp_path.iterdir()
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert len(rounds) == NUM_ROUNDS
    assert LIAR in rounds[1]["distrusted"]
    assert all({*record["gone"]} <= {LIAR} for record in rounds)


@pytest.mark.parametrize("method", ["allreduce", pytest.param("comdml", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lie, id=lie.what, marks=() if lie.what == "cut short" else pytest.mark.slow)
        for lie in PACKED_LIES
    ],
)
def test_mail_that_cannot_be_opened_costs_its_sender_s_share_and_nobody_else_s(lie, method, tmp_path):
    rounds = rounds_with(lie, method, tmp_path)
    assert len(rounds) == NUM_ROUNDS
    assert [{*record["gone"]} <= {LIAR} for record in rounds] == [True] * NUM_ROUNDS
    assert [LIAR in record["distrusted"] for record in rounds] == [False, True, True]
