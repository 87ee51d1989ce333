"""The run configuration: what is wrong with it is told in one line, before anything begins."""

import tomllib
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from comdml_flwr.core.config import RunConfig, parse_config
from comdml_flwr.core.errors import InputError

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
KEYS = [name.replace("_", "-") for name in RunConfig.model_fields]
SWITCHES = ["decay_norms", "deterministic", "download", "share_results", "tensorboard"]
OWN = "an app's own begin with 'app.'"
NAN, INF = float("nan"), float("inf")


def refusal(**values):
    """Return the line that a configuration with this one value is refused with; underscores for dashes."""
    return line_of({key.replace("_", "-"): value for key, value in values.items()})


def line_of(values):
    with pytest.raises(InputError) as caught:
        parse_config(values)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_pyproject_names_every_key_and_parses():
    written = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
    assert sorted(written) == sorted(KEYS)
    assert parse_config(written).with_defaults_named() == written


def test_every_key_is_kebab_case_and_has_a_description():
    for key, field in zip(KEYS, RunConfig.model_fields.values(), strict=True):
        assert field.alias in (None, key)
        assert "_" not in key
        assert field.description, key
        assert "\n" not in field.description, key


def test_every_default_is_a_value_that_may_be_given():
    config = RunConfig()
    assert parse_config(config.with_defaults_named()) == config == parse_config({})


def test_what_is_parsed_comes_out_under_the_key_it_went_in():
    given_values = {"num-rounds": 3, "learning-rate": 1, "download": True, "partition": "dirichlet"}
    config = parse_config(given_values)
    assert (config.num_rounds, config.learning_rate, config.download) == (3, 1.0, True)
    assert {key: config.with_defaults_named()[key] for key in given_values} == given_values
    assert list(config.with_defaults_named()) == KEYS


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError):
        RunConfig().seed = 2


@pytest.mark.parametrize(
    ("key", "meant"),
    [("num-round", "num-rounds"), ("num_rounds", "num-rounds"), ("momentun", "momentum"), ("Seed", "seed")],
)
def test_an_unknown_key_is_refused_with_the_key_that_was_meant(key, meant):
    line = line_of({key: 3})
    assert line == f"{key} = 3: is no key of the run configuration ({OWN}); did you mean '{meant}'?"


def test_an_unknown_key_like_no_other_is_refused_with_all_keys():
    line = line_of({"xyzzy": "a\nb"})
    assert line.startswith(rf"xyzzy = 'a\nb': is no key of the run configuration ({OWN}); the keys are ")
    assert all(key in line for key in KEYS)


def test_true_and_false_are_refused_where_they_are_not_meant():
    switches = {name.replace("_", "-") for name in SWITCHES}
    for key, value in product(set(KEYS) - switches, (True, False)):
        assert line_of({key: value}) == f"{key} = {value}: must not be true or false"


TEXTS = [
    "device",
    "precision",
    "method", "model", "dataset", "data_dir", "partition", "optimizer", "fleet", "solver", "time_model",
    "averaging", "topology", "schedule", "aux_head", "profiles", "carrier", "resume", "results_dir", "wandb",
    "wandb_project", "partition_by", "label_column",
]  # fmt: skip
WHOLE = [
    "num_rounds",
    "local_epochs",
    "batch_size",
    "num_chunks",
    "threads_per_agent",
    "schedule_every",
    "schedule_patience",
    "warmup_rounds",
    "seed",
    "topology_degree",
    "cut",
    "splitfed_version",
    "min_agents",
    "rounds_per_message",
    "checkpoint_every",
    "classes_per_agent",
    "shards_per_agent",
    "image_size",
]
NUMBERS = [
    "alpha",
    "topology_probability",
    "hysteresis",
    "learning_rate",
    "momentum",
    "weight_decay",
    "clip_norm",
    "schedule_factor",
    "participation",
    "target_metric",
    "test_share",
]


def test_the_four_lists_hold_every_key():
    assert sorted([*TEXTS, *WHOLE, *NUMBERS, *SWITCHES]) == sorted(RunConfig.model_fields)


@pytest.mark.parametrize(
    ("keys", "values", "rule"),
    [
        (TEXTS, [3, 2.5, None, ["a"]], "must be "),
        (WHOLE, [2.5, NAN, INF, "many", "", None, [3]], "must be "),
        (NUMBERS, [NAN, INF, -INF, "much", "", "nan", "inf", None, [0.5]], "must be "),
        (SWITCHES, [0, 1, 1.0, "true", "", None], "must be true or false"),
    ],
    ids=["text", "a whole number", "a number", "true or false"],
)
def test_a_key_refuses_what_is_of_another_type(keys, values, rule):
    for key, value in product(keys, values):
        assert refusal(**{key: value}).startswith(f"{key.replace('_', '-')} = {value!r}: {rule}")


WANDB_NAME = r"must be 1 to 128 characters, none of them one of / \ # ? % :"


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("alpha", 0, "must be greater than 0"),
        ("alpha", -0.5, "must be greater than 0"),
        ("num_rounds", 0, "must be at least 1"),
        ("local_epochs", 0, "must be at least 1"),
        ("batch_size", -1, "must be at least 1"),
        ("learning_rate", 0.0, "must be greater than 0"),
        ("momentum", -0.1, "must be at least 0"),
        ("momentum", 1, "must be less than 1"),
        ("weight_decay", -1e-9, "must be at least 0"),
        ("participation", 0, "must be greater than 0"),
        ("participation", 1.01, "must be at most 1"),
        ("num_chunks", 0, "must be at least 1"),
        ("threads_per_agent", 0, "must be at least 1"),
        ("seed", -1, "must be at least 0"),
        ("seed", 2**63, "must be less than 9223372036854775808"),
        ("image_size", 5000, "must be at most 4096"),
        ("classes_per_agent", 0, "must be at least 1"),
        ("test_share", 1, "must be less than 1"),
        ("optimizer", "rmsprop", "must be 'sgd', 'adam' or 'adamw'"),
        ("schedule", "linear", "must be 'constant', 'step', 'cosine' or 'plateau'"),
        ("schedule_every", 0, "must be at least 1"),
        ("schedule_patience", 0, "must be at least 1"),
        ("schedule_factor", 0, "must be greater than 0"),
        ("schedule_factor", 2, "must be at most 1"),
        ("warmup_rounds", -1, "must be at least 0"),
        ("clip_norm", -1, "must be at least 0"),
        (
            "partition",
            "Iid",
            "must be 'iid', 'dirichlet', 'inner-dirichlet', 'shard', 'pathological', 'linear', 'square',"
            " 'exponential' or 'natural-id'",
        ),
        ("solver", "integer-program", "must be 'exact' or 'greedy'"),
        ("time_model", "", "must be 'pipeline' or 'overlap'"),
        ("carrier", "pigeon", "must be 'grid', 'direct', 'auto' or 'local'"),
        ("profiles", "guessed", "must be 'auto', 'fleet' or 'measured'"),
        ("wandb", "on", "must be 'disabled', 'offline' or 'online'"),
        ("wandb_project", "a/b", WANDB_NAME),
        ("wandb_project", "", WANDB_NAME),
    ],
)
def test_an_impossible_value_is_refused_with_the_key_the_value_and_the_rule(key, value, rule):
    assert refusal(**{key: value}) == f"{key.replace('_', '-')} = {value!r}: {rule}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alpha", 1e-9),
        ("num_rounds", 1),
        ("momentum", 0),
        ("momentum", 0.999),
        ("participation", 1),
        ("participation", 0.001),
        ("seed", 0),
        ("seed", 2**63 - 1),
    ],
)
def test_the_values_at_the_edge_are_taken(key, value):
    assert getattr(parse_config({key.replace("_", "-"): value}), key) == value


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(KEYS) | st.text(max_size=8),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_is_given_is_taken_or_refused_in_one_line(values):
    config, refused = None, None
    try:
        config = parse_config(values)
    except InputError as error:
        refused = error
    if config is None:
        assert "\n" not in str(refused)
        assert refused.what in values
    else:
        assert set(values) <= set(KEYS)
        assert parse_config(config.with_defaults_named()) == config
