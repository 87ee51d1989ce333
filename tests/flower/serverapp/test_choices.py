"""What is `auto` is decided by what the nodes find out, and the run says what and why."""

import json

import pytest

from comdml_flwr.carriers.direct import meeting
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.flower.clientapp import peer_client_app, session
from comdml_flwr.flower.serverapp import choices
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from comdml_flwr.runs.local_run import run_locally
from tests.carriers.direct_runs import free_addresses
from tests.flower.loop_grid import LoopGrid, quiet_terminal
from tests.flower.test_direct import SideBySideGrid
from tests.small import CATALOGUE, fleet_text, run_local, small_config, small_fleet

NUM_AGENTS = 3


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(meeting, "REACH_S", 2.0)
    monkeypatch.setattr("comdml_flwr.carriers.direct.links.MOST_BYTES", 1 << 18)
    monkeypatch.setattr(choices, "_LEAST_PATIENCE_S", 3.0)
    monkeypatch.setattr(choices, "ECHO_BYTES", 1 << 16)


class InMemoryGrid(LoopGrid):
    """Of the name that Flower's simulation gives its own."""


def run(folder, *, addresses=None, grid_class=SideBySideGrid, text=None, **keys):
    """Run under Flower's messages; return the run's folder, and what was printed."""
    config = small_config(**{"num_rounds": 1, **keys}).model_copy(update={"results_dir": str(folder)})
    app = peer_client_app.peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets)
    grid = grid_class(app, NUM_AGENTS, config.with_defaults_named())
    if addresses:
        grid.tell_addresses(addresses)
    terminal = quiet_terminal(config.num_rounds)
    run_serverless(grid, config, text or fleet_text(NUM_AGENTS), terminal)
    (found,) = folder.iterdir()
    return found, terminal.console.file.getvalue()


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def plans(folder):
    return [json.loads(line)["plan"] for line in (folder / "rounds.jsonl").read_text().splitlines()]


def test_all_reach_each_other_so_it_is_direct(tmp_path):
    here, _ = run_local(small_config(num_rounds=1), small_fleet(NUM_AGENTS))
    folder, said = run(tmp_path, addresses=free_addresses(NUM_AGENTS), carrier="auto")
    assert "carrier = auto -> direct: all 3 agents reach each other\n" in said
    assert "profiles: those of the fleet file\n" in said
    assert (summary(folder)["carrier"], summary(folder)["profiles"]) == ("direct", "fleet")
    assert summary(folder)["weights_sha256"] == here.weights_sha256


def test_a_wrong_address_makes_it_a_relay_and_the_line_names_it(tmp_path):
    addresses = free_addresses(NUM_AGENTS + 1)
    listens = addresses[2]
    addresses[2] = addresses.pop()  # nobody is there

    class Grid(SideBySideGrid):
        def tell_addresses(self, told):
            super().tell_addresses(told)
            list(self._contexts.values())[2].node_config["p2p-listen"] = listens

    folder, said = run(tmp_path, addresses=addresses, grid_class=Grid, carrier="auto")
    (line,) = [line for line in said.splitlines() if line.startswith("carrier")]
    assert line.startswith("carrier = auto -> relay: agent 0 cannot reach agent 2 (")
    assert "refused" in line
    assert summary(folder)["carrier"] == "grid"


def test_a_node_without_an_address_makes_it_a_relay_without_a_search(tmp_path):
    class Grid(SideBySideGrid):
        def tell_addresses(self, told):
            super().tell_addresses(told)
            del list(self._contexts.values())[1].node_config["p2p-address"]

        def push_messages(self, messages):
            messages = list(messages)
            assert messages[0].metadata.message_type != "query.probe"
            return super().push_messages(messages)

    folder, said = run(tmp_path, addresses=free_addresses(3), grid_class=Grid, carrier="auto")
    assert "carrier = auto -> relay: agent 1 has no p2p-address in its --node-config\n" in said
    assert summary(folder)["carrier"] == "grid"


def test_a_node_that_may_not_listen_so_makes_it_a_relay(tmp_path):
    addresses = free_addresses(NUM_AGENTS)
    addresses[0] = "192.0.2.1:4000"  # no loopback address, and no certificates
    _, said = run(tmp_path, addresses=addresses, carrier="auto")
    assert "carrier = auto -> relay: agent 0 cannot be reached (credentials = None: must be there" in said


def test_a_slow_relay_is_not_planned_as_the_direct_link_that_is_not_there(tmp_path):
    text = "[links]\nbandwidth_mbps = 1000\nrelay_bandwidth_mbps = 0.001\n" + fleet_text(3).split("\n", 2)[2]
    direct, _ = run(tmp_path / "a", addresses=free_addresses(3), carrier="auto", text=text)
    relay, _ = run(tmp_path / "b", carrier="auto", text=text)
    asked, _ = run(tmp_path / "c", carrier="grid", text=text)
    assert plans(direct)[0]["pairs"]
    assert not plans(relay)[0]["pairs"]
    assert plans(asked) == plans(direct)  # who asks for the grid gets the links that the fleet file names


@pytest.mark.parametrize("carrier", ["direct", "auto"])
def test_measured_agents_agree_on_one_plan_over_many_messages(carrier, tmp_path):
    keys = {"num_rounds": 3, "rounds_per_message": 1, "profiles": "auto"}
    folder, said = run(tmp_path, addresses=free_addresses(NUM_AGENTS), carrier=carrier, **keys)
    assert (summary(folder)["carrier"], summary(folder)["profiles"]) == ("direct", "measured")
    assert "profiles: measured: " in said
    assert "bps\n" in said.split("links of ")[1]
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert [line["refused"] for line in lines] == [[], [], []]
    told = json.loads((folder / "agents.json").read_text())["agents"]
    fleet = {1 / 4e9, 1 / 2e9, 1 / 1e9}
    speeds = [agent["batches_per_s"] for agent in told]
    assert len(set(speeds)) == NUM_AGENTS
    assert max(speeds) / min(speeds) < 10 * max(fleet) / min(fleet)


def test_measured_over_the_grid_prices_the_way_through_the_superlink(tmp_path, monkeypatch):
    seen = {}
    real = peer_client_app.run_steps

    def watched(agent, *work):
        seen.setdefault(agent.id, agent.profile)
        return real(agent, *work)

    monkeypatch.setattr(peer_client_app, "run_steps", watched)
    folder, said = run(tmp_path, grid_class=LoopGrid, carrier="grid", profiles="measured", num_rounds=2)
    assert (summary(folder)["carrier"], summary(folder)["profiles"]) == ("grid", "measured")
    assert "through the SuperLink\n" in said
    fleet = small_fleet(NUM_AGENTS).links_by_agent()
    for one in range(NUM_AGENTS):
        for other in set(range(NUM_AGENTS)) - {one}:
            assert seen[one].links[other] == seen[other].links[one]
            assert seen[one].links[other] != fleet[one][other]
            assert seen[one].links[other].latency_s > 0


def test_what_a_node_has_measured_it_measures_once_whatever_process_handles_the_next_message(
    tmp_path, monkeypatch
):
    from comdml_flwr.flower.clientapp import probe as probe_client

    real, measured = probe_client.measure_node, []

    def watched(setup, agent):
        measured.append(agent)
        return real(setup, agent)

    monkeypatch.setattr(probe_client, "measure_node", watched)
    monkeypatch.setattr(session, "_SETUPS", _Forgetful())
    run(
        tmp_path,
        addresses=free_addresses(3),
        carrier="direct",
        profiles="measured",
        num_rounds=2,
        rounds_per_message=1,
    )
    assert sorted(measured) == [0, 1, 2]


class _Forgetful(dict):
    """A process that handles one message and ends."""

    def __contains__(self, key):
        return False


def test_a_simulation_has_the_fleets_profiles_and_the_grid(tmp_path):
    here, _ = run_local(small_config(num_rounds=1), small_fleet(NUM_AGENTS))
    folder, said = run(tmp_path, grid_class=InMemoryGrid, carrier="auto", profiles="auto")
    assert "profiles: those of the fleet file\n" in said
    assert (summary(folder)["carrier"], summary(folder)["profiles"]) == ("grid", "fleet")
    assert summary(folder)["weights_sha256"] == here.weights_sha256


@pytest.mark.parametrize("carrier", ["grid", "auto"])
def test_a_simulation_measures_nothing(carrier, tmp_path):
    with pytest.raises(InputError, match=r"^profiles = 'measured': must be 'fleet' .* Flower's simulation"):
        run(tmp_path, grid_class=InMemoryGrid, carrier=carrier, profiles="measured")
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_one_process_measures_nothing(tmp_path):
    values = {**small_config().with_defaults_named(), "profiles": "measured", "results-dir": str(tmp_path)}
    with pytest.raises(InputError, match=r"^profiles = 'measured': must be 'fleet'"):
        run_locally(values, num_agents=2, catalogue=CATALOGUE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["fedavg", "splitfed"])
def test_methods_with_a_server_have_nothing_to_choose(method):
    config = small_config(method=method, carrier="auto", profiles="auto")
    chosen = choices.without_choice(config)
    assert (chosen.carrier, chosen.profiles) == ("grid", "fleet")
    with pytest.raises(InputError, match=rf"^profiles = 'measured': .* for {method}$"):
        choices.without_choice(config.model_copy(update={"profiles": "measured"}))
    with pytest.raises(InputError, match=rf"^carrier = 'direct': must be 'grid' for {method}$"):
        choices.without_choice(config.model_copy(update={"carrier": "direct"}))


def test_a_node_that_fails_to_measure_is_one_line(tmp_path, monkeypatch):
    from comdml_flwr.flower.clientapp import probe as probe_client

    def broken(setup, agent):
        raise ValueError("no\nmemory")

    monkeypatch.setattr(probe_client, "measure_node", broken)
    with pytest.raises(RunError, match=r"^agent 0 failed in probe: .*ValueError: no memory$"):
        run(tmp_path, grid_class=LoopGrid, carrier="grid", profiles="measured")


class TimedGrid(LoopGrid):
    """A SuperLink by the clock of a test: a node's link takes 1 us a byte, each way, and an exchange 5 s."""

    now_s = 0.0

    def push_messages(self, messages):
        self._began_s, self._due = TimedGrid.now_s, {}
        names = []
        for message in messages:
            num_bytes = len(message.content.config_records["facts"].get("bits", b""))
            name = self._handle(message)
            facts = self._replies[name].content.config_records["facts"]
            here_s = facts.get("loading-s", 0.0) + facts.get("handled-s", 0.0)
            speed = 1e6 if message.metadata.dst_node_id == 1000 else 4e6
            self._due[name] = self._began_s + 5.0 + 2 * num_bytes / speed + here_s
            names.append(name)
        return names

    def pull_messages(self, message_ids):
        first = min(message_ids, key=self._due.get)
        TimedGrid.now_s = self._due[first]
        return super().pull_messages([first])


def test_the_relays_price_is_the_echos_time_without_that_of_an_empty_exchange(tmp_path, monkeypatch):
    class Stopwatch:
        monotonic = staticmethod(lambda: TimedGrid.now_s)
        sleep = staticmethod(lambda seconds: None)

    monkeypatch.setattr(choices, "ECHO_BYTES", 1 << 21)
    monkeypatch.setattr(choices, "time", Stopwatch)
    monkeypatch.setattr("comdml_flwr.flower.serverapp.messenger.time", Stopwatch)
    told = {}
    real = choices._measure_relay

    def watched(*words):
        told.update(real(*words))
        return told

    monkeypatch.setattr(choices, "_measure_relay", watched)
    run(tmp_path, grid_class=TimedGrid, carrier="grid", profiles="measured")
    assert told["relay-bytes-per-s"] == pytest.approx([1e6, 4e6, 4e6], rel=0.05)
    assert all(5.0 <= latency_s < 6.0 for latency_s in told["relay-latency-s"])
