"""Files of settings: what --smoke makes smaller, and one line where something is wrong."""

import pytest

from comdml_flwr.core.errors import InputError
from experiments import cut_table
from experiments.command import numbers, read_settings

KEYS = ("draws", "mbps", "name")


@pytest.fixture
def settings(tmp_path):
    def write(text):
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return path

    return write


FILE = "draws = 20\nmbps = [10, 20, 50]\nname = 'x'\n[smoke]\ndraws = 2\nmbps = 1\n"


def test_smoke_replaces_numbers_and_keeps_the_first_of_lists(settings):
    whole = read_settings(settings(FILE), KEYS, smoke=False)
    small = read_settings(settings(FILE), KEYS, smoke=True)
    assert (whole.whole("draws", lowest=1), numbers(whole, "mbps")) == (20, (10.0, 20.0, 50.0))
    assert (small.whole("draws", lowest=1), numbers(small, "mbps")) == (2, (10.0,))
    assert "smoke" not in whole
    assert "smoke" not in small


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drows = 1", "drows = 1: is not known here; did you mean draws?"),
        ("draws = 1\n[smoke]\nmbps = 1", "smoke.mbps = 1: must stand for a number or a list of the file"),
        ("name = 'x'\n[smoke]\nname = 1", "smoke.name = 1: must stand for a number or a list of the file"),
        ("draws =", "is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(settings, text, message):
    with pytest.raises(InputError, match=r"settings\.toml") as caught:
        read_settings(settings(text), KEYS, smoke=True)
    assert message in str(caught.value)


@pytest.mark.parametrize("values", ["[]", "[1, 0]", "['a']", "3"])
def test_numbers_are_positive_and_at_least_one(settings, values):
    table = read_settings(settings(f"mbps = {values}"), KEYS, smoke=False)
    with pytest.raises(InputError, match="must be numbers > 0, at least one"):
        numbers(table, "mbps")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.toml"], "experiment: config = 'none.toml': No such file or directory"),
        (["--picture", "cuts.pdf"], "experiment: --picture = 'cuts.pdf': must end in .svg or .png"),
        (["--smok"], "experiment: No such option"),
        (["--smoke", "--picture", "."], "experiment: --picture = '.': must end in .svg or .png"),
    ],
)
def test_bad_input_is_one_line_and_status_2(experiment, words, message):
    status, out, err = experiment(cut_table.main, *words)
    assert (status, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
