"""Models whose halves have no parameters, are frozen, write in place, draw, or share weights train."""

import pytest
import torch
from safetensors.torch import load_file

from comdml_flwr.core.errors import InputError
from comdml_flwr.learning.split import float_state, split
from comdml_flwr.planning.fleet.fleet_file import parse_fleet
from comdml_flwr.runs.local_run import run_locally
from tests.flower.loop_grid import quiet_terminal
from tests.odd_models import ODD
from tests.small import CATALOGUE, few_digits, fleet_text, run_local, small_config, small_fleet, small_setup

NUM_AGENTS = 3
TIED = ("tied", "returned-twice")
EVERYWHERE = [name for name in ODD if name != "ends-tied"]


def sizes(name):
    """Return how many stages a model has, and the size of each of its floats by name."""
    model = ODD[name](few_digits().input_shape, 10, torch.Generator())
    return len(model), {tensor: x.numel() for tensor, x in float_state(model)}


def fleet(num_cuts, favourite):
    """Return a fleet with fast links, in which one cut pays and the others do not."""
    shares = [(0.05, 0.1) if cut == favourite else (1.5, 1.5) for cut in range(1, num_cuts + 1)]
    rows = [f"[[time_shares]]\nslow_share = {slow}\nfast_share = {fast}\n" for slow, fast in shares]
    return parse_fleet(fleet_text(NUM_AGENTS, bandwidth_mbps=1e6) + "".join(rows), "test fleet")


def trained(name, favourite=0, **keys):
    """Train for a round; return what it came to, and the server's or the first agent's floats by name."""
    num_stages, floats = sizes(name)
    config = small_config(model=name, num_rounds=1, local_epochs=1, **keys)
    record, agents = run_local(config, fleet(num_stages - 1, favourite))
    pieces = torch.split(agents[0].weights_P, list(floats.values()))
    return record.rounds[0], dict(zip(floats, pieces, strict=True))


@pytest.mark.parametrize("name", EVERYWHERE)
def test_splitfed_trains_at_every_cut_or_says_why_not(name):
    for cut in range(1, sizes(name)[0]):
        if name in TIED and cut == 2:
            with pytest.raises(
                InputError, match=r"^cut = 2: must not part a shared weight: 1.0.weight is 2.0"
            ):
                trained(name, method="splitfed", cut=cut)
        else:
            round_, _ = trained(name, method="splitfed", cut=cut)
            assert round_.loss < 3
            assert round_.not_finite == []


@pytest.mark.parametrize("name", EVERYWHERE)
def test_comdml_trains_at_every_cut_that_parts_no_weight(name):
    for cut in range(1, sizes(name)[0]):
        round_, weights = trained(name, favourite=cut)
        assert {pair["cut"] for pair in round_.plan["pairs"]} == (
            set() if name in TIED and cut == 2 else {cut}
        )
        assert round_.loss < 3
        assert round_.refused == round_.not_finite == []
        assert all(bool(torch.isfinite(x).all()) for x in weights.values())


@pytest.mark.parametrize("method", ["comdml", "splitfed", "allreduce"])
@pytest.mark.parametrize("name", ["frozen-below", "frozen-above"])
def test_frozen_layers_stay_as_they_were(name, method):
    _, weights = trained(name, favourite=1, method=method, cut=1)
    _, before = trained(name, favourite=1, method=method, cut=1, learning_rate=1e-30)
    model = ODD[name](few_digits().input_shape, 10, torch.Generator())
    trainable = {tensor for tensor, x in model.named_parameters() if x.requires_grad}
    assert {tensor for tensor, x in weights.items() if not torch.equal(x, before[tensor])} == trainable


def test_halves_without_parameters_have_no_floats():
    model = ODD["bare-ends"](few_digits().input_shape, 10, torch.Generator())
    assert float_state(split(model, 4)[0]) == float_state(split(model, 1)[1]) == []


def test_a_model_of_which_each_cut_parts_a_weight_is_not_cut():
    line = r"model = 'ends-tied': must have a cut for comdml \(each parts 0.2.weight is 2.0.weight\); method"
    with pytest.raises(InputError, match=line):
        trained("ends-tied")
    for cut in (1, 2):
        with pytest.raises(
            InputError, match=rf"cut = {cut}: must not part a shared weight: 0.2.weight is 2.0"
        ):
            trained("ends-tied", method="splitfed", cut=cut)
    round_, weights = trained("ends-tied", method="allreduce")
    assert round_.loss < 3
    assert "2.0.weight" not in weights


def test_the_saved_model_of_shared_weights_has_both_names(tmp_path):
    (tmp_path / "fleet.toml").write_text(fleet_text(2))
    values = {
        "model": "tied",
        "dataset": "few-digits",
        "num-rounds": 1,
        "fleet": str(tmp_path / "fleet.toml"),
    }
    run_locally(
        {**values, "results-dir": str(tmp_path / "results")},
        num_agents=2,
        catalogue=CATALOGUE,
        terminal=quiet_terminal(1),
    )
    (file,) = tmp_path.glob("results/*/model.safetensors")
    model = ODD["tied"](few_digits().input_shape, 10, torch.Generator())
    model.load_state_dict(load_file(file))
    assert model[1][0].weight is model[2][0].weight
    assert torch.equal(load_file(file)["1.0.weight"], load_file(file)["2.0.weight"])


@pytest.mark.parametrize("version", [1, 2])
def test_splitfed_draws_the_same_twice_and_side_by_side(version):
    """A batch runs forward twice at its agent: both times with the same dropout."""
    config = small_config(
        model="drawing", method="splitfed", cut=1, splitfed_version=version, local_epochs=1, batch_size=13
    )
    records = []
    for num_workers, noise in ((1, 1), (1, 2), (3, 3)):
        torch.manual_seed(noise)
        records.append(run_local(config, small_fleet(NUM_AGENTS), num_workers=num_workers)[0])
    assert len({record.weights_sha256 for record in records}) == 1
    assert len({record.rounds[-1].loss for record in records}) == 1


def test_a_batch_draws_what_its_seed_says():
    config = small_config(model="drawing", method="splitfed", cut=1, num_rounds=1)
    agent = run_local(config, small_fleet(2))[1][1]
    agent.begin_round(1)
    learner = agent.setup.learners.lower_part(1)
    learner.begin(agent.weights_P[: learner.num_floats])
    x, _ = agent.samples(agent.batches()[0], 0)
    one, other = (learner.forward(x, agent.draws("client side, batch 0")) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, learner.forward(x, agent.draws("client side, batch 1")))


def test_a_last_batch_of_one_sample_joins_the_one_before_where_it_cannot_train_alone():
    sizes = {}
    for model in ("drawing", "four-stages"):
        keys = {"method": "allreduce", "batch_size": 13, "num_rounds": 1, "local_epochs": 2}
        config = small_config(model=model, **keys)
        _, agents = run_local(config, small_fleet(5))
        sizes[model] = [len(batch) for batch in agents[0].batches()]
        assert agents[0].setup.most_batches == len(sizes[model])
    assert sizes == {"drawing": [13, 13, 14] * 2, "four-stages": [13, 13, 13, 1] * 2}


def test_memory_is_counted_for_the_joined_batch():
    plain, joined = (
        small_setup(small_config(model="drawing", batch_size=size), small_fleet(5)).cuts for size in (14, 13)
    )
    assert joined[1].whole_bytes == plain[1].whole_bytes


def test_batches_of_one_are_refused_where_a_stage_cannot_train_on_them():
    with pytest.raises(
        InputError, match=r"batch-size = 1: must be at least 2: stage 1 of 3 \(Sequential\) cannot"
    ):
        trained("drawing", batch_size=1)


def test_nobody_is_left_with_one_sample_where_a_stage_cannot_train_on_it():
    config = small_config(model="drawing", partition="dirichlet", alpha=0.01, num_rounds=1)
    setup = small_setup(config, small_fleet(20))
    assert min(setup.num_samples.values()) == 2
    assert "too few samples" in setup.warnings[-1]
    with pytest.raises(InputError, match="must be from 1 to the 200 training samples, 2 for each"):
        small_setup(config, small_fleet(101))


def test_evaluation_that_draws_is_the_same_in_each_run(monkeypatch):
    class Always(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.dropout(x)

    def always(shape, num_classes, generator):
        model = ODD["drawing"](shape, num_classes, generator)
        return torch.nn.Sequential(model[0], Always(), model[1], model[2])

    monkeypatch.setitem(CATALOGUE.models, "always", always)
    losses = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        record, agents = run_local(small_config(model="always", num_rounds=1), small_fleet(2))
        losses.append(record.rounds[0].loss)
    assert losses[0] == losses[1]
    assert "draws random numbers in evaluation" in agents[0].setup.warnings[0]
