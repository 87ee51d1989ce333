"""Models that are no chains of stages train with ComDML, cut by their graph."""

import pytest
import torch
from safetensors.torch import load_file

from comdml_flwr.core.errors import InputError
from comdml_flwr.runs.catalogue import Catalogue
from comdml_flwr.runs.local_run import run_locally
from tests.flower.loop_grid import quiet_terminal
from tests.odd_modules import MODULES, ControlFlow, seeded
from tests.small import CATALOGUE, fleet_text, run_local, small_config, small_fleet


class OfRows(ControlFlow):
    """Looks at the data, and takes six numbers of an image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flatten(1)[:, 20:26])


def run(tmp_path, model, catalogue=CATALOGUE, **keys):
    (tmp_path / "fleet.toml").write_text(fleet_text(5))
    values = {
        "model": model,
        "dataset": "few-digits",
        "num-rounds": 2,
        "batch-size": 8,
        "fleet": str(tmp_path / "fleet.toml"),
        "results-dir": str(tmp_path / "results"),
    }
    return run_locally({**values, **keys}, num_agents=5, catalogue=catalogue, terminal=quiet_terminal(2))


@pytest.mark.parametrize("name", MODULES)
def test_the_model_trains_in_pairs_and_its_file_loads_into_the_users_own(name, tmp_path):
    record = run(tmp_path, name)
    assert all(round_.plan["pairs"] for round_ in record.rounds)
    (file,) = tmp_path.glob("results/*/model.safetensors")
    model = MODULES[name]((1, 8, 8), 10, torch.Generator().manual_seed(0))
    model.load_state_dict(load_file(file))
    assert record.rounds[-1].loss < 2.4


@pytest.mark.parametrize("name", MODULES)
def test_splitfed_trains_the_model_too(name):
    record, _ = run_local(small_config(model=name, method="splitfed", cut=2, num_rounds=1), small_fleet(2))
    assert record.rounds[0].not_finite == []


def test_what_cannot_be_cut_is_refused_by_comdml_and_trained_whole_by_others(tmp_path):
    own = {"looks": seeded(OfRows)}
    catalogue = Catalogue(models=own, datasets=CATALOGUE.datasets)
    with pytest.raises(InputError, match=r"model = 'looks': must have a cut for comdml \(.*control flow in"):
        run(tmp_path, "looks", catalogue)
    record = run(tmp_path, "looks", catalogue, method="allreduce")
    assert record.rounds[-1].loss > 0
