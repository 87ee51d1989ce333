"""Measured shares of the time stand in for those of the FLOPs, in a run as in a plan."""

import pytest

from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.model_costs import model_costs
from tests.small import fleet_text, run_local, small_config, small_fleet, small_setup

SHARES = ((1.05, 0.1), (0.7, 0.45), (0.3, 0.9))
TABLES = "".join(f"[[time_shares]]\nslow_share = {slow}\nfast_share = {fast}\n" for slow, fast in SHARES)


def measured_fleet():
    return parse_fleet(fleet_text(5) + TABLES, "measured.toml")


def shares_of(cuts):
    return tuple((cut.slow_share, cut.fast_share) for cut in cuts)


def test_a_run_plans_with_the_shares_that_were_measured():
    counted = small_setup(small_config(), small_fleet(5)).cuts
    measured = small_setup(small_config(), measured_fleet()).cuts
    assert shares_of(measured) == SHARES != shares_of(counted)
    assert [cut.bytes_per_batch for cut in measured] == [cut.bytes_per_batch for cut in counted]
    assert [cut.slow_bytes for cut in measured] == [cut.slow_bytes for cut in counted]


def test_the_clock_of_a_run_ends_with_the_plan_also_where_shares_are_measured():
    (record,) = run_local(small_config(num_rounds=1), measured_fleet())[0].rounds
    assert record.plan["pairs"]
    assert record.makespan_s == pytest.approx(record.predicted_s, rel=1e-9)
    (counted,) = run_local(small_config(num_rounds=1), small_fleet(5))[0].rounds
    assert record.predicted_s != counted.predicted_s


def test_a_plan_for_a_model_uses_them():
    model = '[model]\nname = "resnet-56"\ninput = [1, 8, 8]\nbatch_size = 32\n'
    tables = "[[time_shares]]\nslow_share = 0.5\nfast_share = 0.5\n" * 7
    fleet = parse_fleet(model + fleet_text(5) + tables, "measured.toml")
    assert shares_of(model_costs(fleet).cuts) == ((0.5, 0.5),) * 7


def test_shares_of_another_model_are_refused():
    message = r"^measured\.toml: time_shares = '3 entries': must be one for each of the model's 7 cuts$"
    with pytest.raises(InputError, match=message):
        small_setup(small_config(model="resnet-56"), measured_fleet())
