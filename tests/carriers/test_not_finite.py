"""An agent whose training is not finite costs its share alone, with the same bits on every carrier."""

import pytest

from tests.broken import break_data
from tests.carriers.test_conformance import NUM_AGENTS, direct, grid, local
from tests.faults import FailAt, run_local_with
from tests.small import run_local, small_config, small_fleet

FLEET = small_fleet(NUM_AGENTS)
QUICK = {"local_epochs": 1, "batch_size": 16, "num_chunks": 2}


def slow_agent(**keys):
    record, _ = run_local(small_config(num_rounds=1, **QUICK, **keys), FLEET)
    pair = record.rounds[0].plan["pairs"][0]
    return pair["slow"], pair["fast"]


@pytest.mark.parametrize("carrier", [grid, direct], ids=["grid", "direct"])
@pytest.mark.parametrize(
    "keys",
    [{}, {"averaging": "mixing", "topology": "ring"}, {"method": "gossip"}],
    ids=["comdml", "comdml mixing", "gossip"],
)
def test_every_carrier_gives_the_bits_of_the_local_one(keys, carrier, tmp_path, monkeypatch):
    break_data(monkeypatch, slow_agent()[0], rounds=(1, 2))
    config = small_config(num_rounds=3, **QUICK, **keys)
    assert carrier(config, tmp_path, monkeypatch) == local(config, tmp_path, monkeypatch)


def test_an_agent_that_takes_its_layers_back_still_keeps_what_is_not_finite_to_itself(monkeypatch):
    slow, helper = slow_agent()
    break_data(monkeypatch, slow)
    config = small_config(num_rounds=2, **QUICK)
    record, agents = run_local_with(config, FLEET, [FailAt(helper, 2, round=1)])
    first, second = record.rounds
    assert (first.taken_back, first.gone, first.not_finite) == ([slow], [helper], [slow])
    assert second.not_finite == [slow]
    others = [agent for agent in agents if agent != helper]
    assert len({agents[agent].weights_sha256() for agent in others}) == 1
    assert agents[slow].weights_P.isfinite().all()
