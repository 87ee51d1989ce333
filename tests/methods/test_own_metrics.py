"""A method tells a number of its own by one line in the method: every record and display shows it."""

import json
import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from comdml_flwr.core.errors import RunError
from comdml_flwr.core.program import Phase, Program, together
from comdml_flwr.core.round_metrics import combine_metrics, pack_metric
from comdml_flwr.methods.allreduce import contribute, program, train
from comdml_flwr.methods.phases.evaluation import tell
from comdml_flwr.runs.catalogue import SERVERLESS
from comdml_flwr.runs.local_run import run_locally
from tests.flower.loop_grid import grid_config, quiet_terminal, run_on_grid
from tests.small import CATALOGUE, fleet_text, small_config

OWN = {"agent_ids_sum": 3.0, "mean_round": 2.0, "largest_id": 2.0, "lost": None}


def tell_of_training(agent, inbox):
    """Tell what a method might: agents 0, 1 and 2 in round 2 give `OWN`."""
    tell(agent, "agent_ids_sum", agent.id, "sum")
    tell(agent, "mean_round", agent.round, "mean")
    tell(agent, "largest_id", agent.id, "max")
    tell(agent, "lost", math.nan if agent.id == 1 else 1.0, "mean")
    return ()


def telling_program():
    """Return AllReduce that tells numbers of its own while it trains, three phases before it reports."""
    first, _, *rest = program().phases
    telling = Phase(
        name="train and scatter", run=together(train, tell_of_training, contribute), again=contribute
    )
    return Program(phases=(first, telling, *rest))


@pytest.fixture
def with_telling_method(monkeypatch):
    monkeypatch.setitem(SERVERLESS, "allreduce", lambda config, num_agents: telling_program())


def test_a_methods_own_numbers_are_in_records_terminal_and_trackers(with_telling_method, tmp_path):
    (tmp_path / "fleet.toml").write_text(fleet_text(3))
    config = small_config(
        method="allreduce", local_epochs=1, tensorboard=True, fleet=f"{tmp_path}/fleet.toml"
    )
    values = {**config.with_defaults_named(), "results-dir": str(tmp_path / "results")}
    screen = quiet_terminal(2)
    record = run_locally(values, num_agents=3, catalogue=CATALOGUE, terminal=screen)
    assert record.last.metrics == OWN
    (folder,) = (tmp_path / "results").iterdir()
    line = json.loads((folder / "rounds.jsonl").read_text().splitlines()[-1])
    assert line["metrics"] == OWN
    printed = screen.console.file.getvalue()
    assert "  agent_ids_sum 3, mean_round 2, largest_id 2, lost not finite\n" in printed
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("method/mean_round")] == [1.0, 2.0]
    assert "method/lost" not in events.Tags()["scalars"]


def test_they_pass_through_flower_from_a_phase_before_the_last(with_telling_method, tmp_path):
    run_on_grid(grid_config(small_config(method="allreduce", local_epochs=1), tmp_path), fleet_text(3), 3)
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "rounds.jsonl").read_text().splitlines()[-1])["metrics"] == OWN


def test_who_tells_nothing_of_a_number_does_not_count_in_it():
    assert combine_metrics([{}, {"x": pack_metric(3.0, "mean")}, {"x": pack_metric(1.0, "mean")}]) == {
        "x": 2.0
    }


@pytest.mark.parametrize(
    "told", [[3], [{"x": 1.0}], [{"x": {"combine": "sum"}}], [{"x": {"combine": "sum", "value": "1"}}]]
)
def test_metrics_of_a_report_that_are_none_are_an_error_in_one_line(told):
    with pytest.raises(RunError, match=r"^a report holds metrics that are none: [^\n]*$"):
        combine_metrics(told)


def test_agents_that_combine_a_metric_in_different_ways_are_an_error():
    with pytest.raises(RunError, match=r"^reports combine the metric x by 'sum' and by 'max'$"):
        combine_metrics([{"x": pack_metric(1.0, "sum")}, {"x": pack_metric(1.0, "max")}])


def test_a_way_to_combine_that_there_is_not_is_refused_where_it_is_told():
    with pytest.raises(ValueError, match=r"^combine = 'least': must be one of sum, mean, max$"):
        pack_metric(1.0, "least")
