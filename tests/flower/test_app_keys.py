"""Keys of an app's own in the run configuration: handed on to its functions, the same on every carrier."""

import json
import re

import pytest
from flwr.app import Context, RecordDict

from comdml_flwr.core.config import parse_config
from comdml_flwr.core.errors import InputError
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.serverapp.peer_server_app import peer_server_app
from comdml_flwr.learning.data.app_data import own_data
from comdml_flwr.learning.task import Classification
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from tests.carriers.direct_runs import free_addresses
from tests.flower.loop_grid import LoopGrid, quiet_terminal
from tests.flower.test_direct import SideBySideGrid
from tests.small import few_digits, fleet_text, four_stages

NUM = 3
TASK = Classification(num_classes=10)


def load_data(place):
    """Take as many samples as a key of the app's own says."""
    data, num = few_digits(), place.run_config["app.num-samples"]
    rows = slice(place.partition_id * num, (place.partition_id + 1) * num)
    return (data.x_train_NCHW[rows], data.y_train_N[rows]), (data.x_test_NCHW[:8], data.y_test_N[:8])


def flwr_run(tmp_path, carrier="grid", **keys):
    """Start an app with data of its own as `flwr run --run-config` does; return the run's folder."""
    (tmp_path / "fleet.toml").write_text(fleet_text(NUM))
    results = tmp_path / carrier
    values = {
        "num-rounds": 1,
        "local-epochs": 1,
        "batch-size": 8,
        "method": "allreduce",
        "carrier": carrier,
        "profiles": "fleet",
        "fleet": str(tmp_path / "fleet.toml"),
        "results-dir": str(results),
        **{key.replace("_", "-"): value for key, value in keys.items()},
    }
    if carrier == "local":
        catalogue = Catalogue(own_model=four_stages, own_data=own_data(load_data, TASK))
        run_locally(values, num_agents=NUM, catalogue=catalogue, terminal=quiet_terminal(1))
        return next(results.iterdir())
    client = peer_client_app(model=four_stages, task=TASK, data=load_data)
    grid = (SideBySideGrid if carrier == "direct" else LoopGrid)(client, NUM, values)
    if carrier == "direct":
        grid.tell_addresses(free_addresses(NUM))
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=values)
    peer_server_app()(grid, context)
    return next(results.iterdir())


@pytest.mark.parametrize("carrier", ["local", "grid", "direct"])
def test_a_key_of_the_apps_own_reaches_its_function(tmp_path, carrier):
    folder = flwr_run(tmp_path, carrier, **{"app.num-samples": 24, "app.note": "x"})
    agents = json.loads((folder / "agents.json").read_text())["agents"]
    assert [sum(agent["label_counts"]) for agent in agents] == [24] * NUM
    config = json.loads((folder / "config.json").read_text())
    assert (config["app.num-samples"], config["app.note"]) == (24, "x")


def test_a_run_that_goes_on_has_the_same_keys_of_the_apps_own(tmp_path):
    keys = {"app.num-samples": 16, "checkpoint-every": 1}
    folder = flwr_run(tmp_path, num_rounds=1, **keys)
    for other in ({"app.num-samples": 17}, {"app.note": "new"}):
        key, value = next(iter(other.items()))
        has = keys.get(key, "none")
        line = re.escape(f"{key} = {value!r}: contradicts the run in {folder}, which has {has}")
        with pytest.raises(InputError, match=f"^{line}$"):
            flwr_run(tmp_path, num_rounds=2, resume=str(folder), **{**keys, **other})
    flwr_run(tmp_path, num_rounds=2, resume=str(folder), **keys)
    assert len((folder / "rounds.jsonl").read_text().splitlines()) == 2
    agents = json.loads((folder / "agents.json").read_text())["agents"]
    assert [sum(agent["label_counts"]) for agent in agents] == [16] * NUM


def test_values_of_the_apps_own_keys_stay_what_they_are():
    own = {"app.a": True, "app.b": 1, "app.c": 1.0, "app.d": "1", "app.deep.er": 0}
    named = parse_config(own).with_defaults_named()
    assert {key: (type(value), value) for key, value in named.items() if key in own} == {
        key: (type(value), value) for key, value in own.items()
    }
    with pytest.raises(InputError, match=r"^app\.a = \[1\]: "):
        parse_config({"app.a": [1]})
