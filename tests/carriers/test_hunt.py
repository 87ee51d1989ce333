"""The laws of test_histories.py with new seeds each time: `pytest -m hunt --hunt-seconds=60`."""

import secrets
import time

import pytest

from comdml_flwr.core.errors import RunError
from tests.carriers import draws
from tests.carriers.laws import broken_laws
from tests.carriers.replay import command_of
from tests.carriers.simulation import RUNS, simulate, tiny_setup


@pytest.mark.hunt
@pytest.mark.parametrize("kind", draws.KINDS, ids=lambda kind: kind.__name__)
def test_no_history_breaks_a_law(kind, pytestconfig, capsys):
    """For as long as the options say, all kinds together; a history that breaks a law can be replayed."""
    with_liar = pytestconfig.getoption("--hunt-liars")
    give_up = time.monotonic() + pytestconfig.getoption("--hunt-seconds") / len(draws.KINDS)
    found, num_histories = "", 0
    while not found and time.monotonic() < give_up:
        run, seed = secrets.choice(list(RUNS)), secrets.randbelow(1 << 32)
        setup = tiny_setup(**RUNS[run])
        history = draws.draw(kind, seed, setup.ids, with_liar=with_liar)
        try:
            _, parts = simulate(setup, history)
            broken = broken_laws(setup, history, parts)
        except RunError as error:
            broken = [str(error)]
        num_histories += 1
        if broken:
            found = "\n".join([*broken, command_of(run, history)])
    with capsys.disabled():
        print(f"\n{kind.__name__}: {num_histories} histories")
    assert not found, f"a law is broken:\n{found}"
