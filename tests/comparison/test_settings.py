"""The comparison file: what it means, and that every mistake is one line before any training."""

from pathlib import Path

import pytest

from comdml_flwr.comparison.settings import load_comparison
from comdml_flwr.core.errors import InputError
from comdml_flwr.planning.fleet.presets import preset_text
from tests.comparison.small_comparison import TOML, add_small_names, write_comparison

ROOT = Path(__file__).resolve().parents[2]
METHOD, CASE = 'method = "comdml"', 'fleet = "fleet.toml"'


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    add_small_names(monkeypatch)


def load(folder, *changes, smoke=False):
    text = TOML
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return load_comparison(write_comparison(folder, text), smoke=smoke)


def config(comparison, seed=1):
    return comparison.config(comparison.cases[0], comparison.methods[0], seed)


def test_a_cases_keys_win_over_a_methods_and_those_over_all_runs(tmp_path):
    run, method, case = ("num-rounds = 2", "num-rounds = 4"), (METHOD, METHOD), (CASE, CASE)
    assert config(load(tmp_path)).num_rounds == 2
    method = (METHOD, f"{METHOD}\nnum-rounds = 5")
    assert config(load(tmp_path, run, method)).num_rounds == 5
    case = (CASE, f"{CASE}\nnum-rounds = 6")
    assert config(load(tmp_path, run, method, case)).num_rounds == 6


def test_a_run_names_its_fleet_as_the_file_does(tmp_path):
    found = config(load(tmp_path), seed=2)
    assert (found.fleet, found.seed, found.carrier, found.results_dir) == ("fleet.toml", 2, "local", "runs")


def test_a_fleet_may_be_a_preset_with_a_seed(tmp_path):
    case = load(tmp_path, (CASE, 'fleet = "comdml-10"\nfleet-seed = 7')).cases[0]
    assert case.fleet == "comdml-10, seed 7"
    assert case.fleet_text == preset_text("comdml-10", seed=7)


def test_smoke_replaces_what_its_table_says_and_has_a_folder_of_its_own(tmp_path):
    more = (CASE, f"{CASE}\nnum-rounds = 9")
    smoke = load(tmp_path, more, smoke=True)
    assert (smoke.name, smoke.seeds, smoke.targets) == ("small-smoke", (3,), (0.05, 1.0))
    assert smoke.cases[0].num_agents == 2
    assert config(smoke).num_rounds == 1
    assert config(load(tmp_path, more)).num_rounds == 9


@pytest.mark.parametrize("smoke", [False, True])
def test_the_main_comparison_is_well_formed(smoke):
    comparison = load_comparison(ROOT / "experiments/configs/main.toml", smoke=smoke)
    assert len(comparison.cases) == (1 if smoke else 2)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("seeds = [1, 2]", "seds = [1]"), "small.toml: seds = [1]: is not known here; did you mean seeds?"),
        (("seeds = [1, 2]", "seeds = [1, 1]"), "seeds = [1, 1]: must be different from each other"),
        (("seeds = [1, 2]", "seeds = []"), "seeds = []: must not be empty"),
        (("seeds = [1, 2]", "seeds = [-1]"), "small.toml: seeds = -1: must be at least 0"),
        (("seeds = [1, 2]", 'seeds = ["1"]'), "small.toml: seeds[0] = '1': must be a whole number"),
        (
            ("targets = [0.05, 1.0]", "targets = [90]"),
            "targets[0] = 90.0: must be at most 1, which is the best accuracy that there is",
        ),
        (("targets = [0.05, 1.0]", "targets = [inf]"), "targets[0] = inf: must be"),
        (("targets = [0.05, 1.0]", "targets = [nan]"), "targets[0] = nan"),
        (('name = "small"', 'name = "../x"'), "name = '../x': must consist of letters, digits"),
        (('name = "small"', 'name = "x"\nabout = "a\\nb"'), "about = 'a\\nb': must be one line"),
        (
            ('name = "small"', 'name = "x"\nreferense = "a"'),
            "referense = 'a': is not known here; did you mean",
        ),
        (
            ('reference = "AllReduce"', 'reference = "AllReduc"'),
            "label of a method; did you mean 'AllReduce'?",
        ),
        (
            ('label = "ComDML"', 'label = "allreduce"'),
            "methods[1].label = 'AllReduce': names the same folder",
        ),
        (('label = "ComDML"', 'label = ".."'), "methods[0].label = '..': must be at most 80 characters"),
        (('label = "ComDML"', ""), "small.toml: methods[0].label = None: must be given"),
        (
            (METHOD, 'method = "comdlm"'),
            "methods[0].method = 'comdlm': must be one of allreduce, braintorrent, comdml, dpsgd",
        ),
        ((METHOD, f"{METHOD}\nnum-round = 3"), "methods[0].num-round = 3: is not known here; did you mean"),
        ((METHOD, f"{METHOD}\nbatch-size = 0"), "methods[0].batch-size = 0: must be at least 1"),
        ((METHOD, f"{METHOD}\nseed = 3"), "methods[0].seed = 3: is set by `seeds`"),
        ((METHOD, f'{METHOD}\nfleet = "a"'), "methods[0].fleet = 'a': belongs to a case"),
        ((METHOD, f"{METHOD}\ncheckpoint-every = 2"), "methods[0].checkpoint-every = 2: is always 0 in a"),
        ((METHOD, f'{METHOD}\nresume = "a"'), "methods[0].resume = 'a': is for a run by itself"),
        ((METHOD, f'{METHOD}\nresults-dir = "a"'), "methods[0].results-dir = 'a': is set by --output"),
        (
            (METHOD, f"{METHOD}\ntarget-metric = 0.9"),
            "methods[0].target-metric = 0.9: is for a run",
        ),
        ((METHOD, f'{METHOD}\ncarrier = "grid"'), "methods[0].carrier = 'grid': is always local"),
        ((METHOD, f"{METHOD}\nalpha = [1]"), "methods[0].alpha = [1]: must be a number"),
        (('model = "four-stages"', 'model = "five"'), "small.toml: run.model = 'five': must be one of"),
        (("num-rounds = 2", 'dataset = "x"\nnum-rounds = 2'), "is not TOML: Cannot overwrite a value"),
        (('dataset = "few-digits"', 'dataset = "x"'), "small.toml: run.dataset = 'x': must be one of"),
        (
            ("batch-size = 8", "batch_size = 8"),
            "run.batch_size = 8: is not known here; did you mean batch-size?",
        ),
        ((CASE, 'fleet = "flet.toml"'), "cases[0].fleet = 'flet.toml': is neither a file ("),
        ((CASE, f"{CASE}\nfleet-seed = 1"), "cases[0].fleet-seed = 1: is of a preset: comdml-10"),
        ((CASE, f"{CASE}\nalpha = -1"), "small.toml: cases[0].alpha = -1: must be greater than 0"),
        (("num-agents = 3", "num-agents = 6"), "num-agents = 6: must be at most 5: fleet.toml has no more"),
        (("num-agents = 3", "num-agents = 0"), "cases[0].num-agents = 0: must be at least 1"),
        (("seeds = [3]", "seeds = 3"), "small.toml: smoke.seeds = 3: must be a list"),
        (("seeds = [3]", "epochs = 3"), "small.toml: smoke.epochs = 3: is not known here"),
        (("[[cases]]", "[[case]]"), "small.toml: case = 'an array': is not known here; did you mean cases?"),
        (("[[cases]]", "[cases]"), "small.toml: cases = 'a table': must be one or more [[cases]] tables"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_one_line_that_names_place_value_and_rule(tmp_path, change, line):
    with pytest.raises(InputError) as error:
        load(tmp_path, change)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_missing_smoke_table_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.toml'?: No such file"):
        load_comparison(tmp_path / "nothing.toml")
    with pytest.raises(InputError, match="smoke = None: must be given for --smoke"):
        load_comparison(write_comparison(tmp_path, TOML.partition("[smoke]")[0]), smoke=True)


def test_a_fault_in_the_fleet_file_is_named(tmp_path):
    path = write_comparison(tmp_path)
    (tmp_path / "fleet.toml").write_text("[[agents]]\nid = 0\n")
    with pytest.raises(InputError, match="flops_per_s"):
        load_comparison(path)
