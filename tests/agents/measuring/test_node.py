"""What a node has measured lies in the run's folder, and fits what it has just done."""

import pytest

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.measuring import node
from comdml_flwr.agents.measuring.node import keep_measured, kept_measured, measure_node
from comdml_flwr.carriers.direct.observed import ENOUGH_BYTES, observe_traffic
from comdml_flwr.carriers.transport.traffic import Traffic
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp.probe import load_measured
from comdml_flwr.planning.measured import Measured, SpeedEstimate
from comdml_flwr.planning.types import Link
from tests.small import small_config, small_fleet, small_setup

SOME = Measured(
    speed=SpeedEstimate(batch_s=0.25), memory_bytes=3e9, links={1: Link(bytes_per_s=1e6, latency_s=0.001)}
)


def small():
    return small_setup(small_config(), small_fleet(2))


def test_what_was_kept_is_found_by_the_next_process(tmp_path):
    keep_measured(tmp_path, 0, SOME)
    assert kept_measured(tmp_path, 0) == SOME
    assert kept_measured(tmp_path, 1) is None


@pytest.mark.parametrize("content", ["", "[1]", '{"batch_s": "fast", "links": []}', "\xff"])
def test_a_file_that_is_no_measurement_is_one_line(content, tmp_path):
    keep_measured(tmp_path, 0, SOME)
    path = tmp_path / "measured" / "0.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(RunError) as caught:
        kept_measured(tmp_path, 0)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_agent_begins_with_what_its_node_kept(tmp_path):
    keep_measured(tmp_path, 0, SOME)
    agent = Agent(0, small())
    load_measured(agent, tmp_path)
    assert agent.measured == SOME
    assert agent.profile.batches_per_s == 4
    assert agent.profile.links == SOME.links


def test_one_that_comes_late_measures_itself_and_has_the_fleets_links(tmp_path):
    agent = Agent(0, small())
    told = agent.profile
    load_measured(agent, tmp_path)
    assert agent.measured == kept_measured(tmp_path, 0)
    assert agent.profile.links == told.links
    assert agent.profile.batches_per_s != told.batches_per_s


@pytest.mark.parametrize("free_bytes", [0, 1, 10**15, None])
def test_what_it_has_just_trained_fits_whatever_the_system_says(free_bytes, monkeypatch):
    monkeypatch.setattr(node, "available_memory_bytes", lambda: free_bytes)
    setup = small()
    measured = measure_node(setup, 1)
    assert measured.memory_bytes >= setup.cuts[1].whole_bytes
    assert measured.memory_bytes >= (free_bytes or 0)
    assert (measured.memory_bytes == float("inf")) == (free_bytes is None)


class Sent:
    """A transport that has sent this."""

    def __init__(self, **traffic):
        self._traffic = traffic

    def take_traffic(self):
        return {1: Traffic(**self._traffic)}


@pytest.mark.parametrize(
    ("traffic", "bytes_per_s"),
    [
        ({"num_bytes": 4_000_000, "busy_s": 12.004, "num_starts": 2}, 0.5e6),  # 3 us a byte, where it was 1
        ({"num_bytes": ENOUGH_BYTES - 1, "busy_s": 12.0}, 1e6),
    ],
    ids=["without the round trips", "too little"],
)
def test_a_rounds_mail_refines_the_link_that_it_took(traffic, bytes_per_s):
    agent = Agent(0, small())
    agent.measured = SOME
    observe_traffic(agent, Sent(**traffic))
    assert agent.measured.links[1].bytes_per_s == pytest.approx(bytes_per_s)


def test_with_the_fleets_profiles_mail_changes_nothing():
    agent = Agent(0, small())
    observe_traffic(agent, Sent(num_bytes=4_000_000, busy_s=12.0))
    assert agent.measured is None
